"""Tracks: the same number for an object from frame to frame, as SORT does.

A Kalman filter of constant velocity predicts the box of each track, and the detections of a frame are assigned to the
predictions of their class that they overlap. An unmatched track, as behind an obstacle, continues at its velocity for a
while.

Legend: T tracks, N detections, P those of known objects, Q those of new ones; 4 values of a box: x, y, w, h in
fractions of the image.

Source: Bewley et al., Simple Online and Realtime Tracking, 2016; noise as in Wojke et al., DeepSORT, 2017.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from darkpy.evaluation.result import Result
from darkpy.ops.boxes import iou

POSITION_NOISE_SHARE = 0.05
"""Standard deviation of a position between two frames, as a share of the box's side."""
VELOCITY_NOISE_SHARE = 0.00625
"""Standard deviation of a velocity between two frames, as a share of the box's side."""
MIN_ASSIGNMENT_IOU = 0.2
LOST_BOX_ENLARGEMENT = 1.5
"""Factor of the sides of boxes that overlapped nothing, for a second comparison: their prediction is less certain."""
MAX_MISSED_FRAMES = 30
NEW_VELOCITY_NOISE_FACTOR = 10
"""A new track's velocity is unknown; its deviation is this many times the usual one."""
MIN_SIDE_FRAC = 1e-6

_TRANSITION_22 = np.array(((1.0, 1.0), (0.0, 1.0)))


@dataclass(eq=False, slots=True)
class Tracker:
    """Tracks of one sequence of frames.

    Each value of a box has a filter of its own: state_T42 holds the value and its velocity, covariance_T422 theirs.
    max_missed_frames: frames without the object after which its track ends.
    """

    max_missed_frames: int = MAX_MISSED_FRAMES
    _begun: int = 0
    _ids_T: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _classes_T: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _missed_T: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _state_T42: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 4, 2)))
    _covariance_T422: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 4, 2, 2)))

    def update(self, result: Result) -> Result:
        """Return the detections of the next frame with their `track_ids`, counted from 1.

        Every detection has one at once. A frame that could not be read counts as one without detections.
        """
        # predict; the size of a lost object stays
        self._state_T42[self._missed_T > 0, 2:, 1] = 0
        noise_T42 = _noise(self._state_T42[..., 0])
        state_T42 = self._state_T42 @ _TRANSITION_22.T
        covariance_T422 = _TRANSITION_22 @ self._covariance_T422 @ _TRANSITION_22.T
        covariance_T422 += noise_T42[..., None] ** 2 * np.eye(2)

        boxes_N4 = result.boxes_frac.astype(np.float64)
        track_N = self._assign(state_T42[..., 0], boxes_N4, result.class_ids)
        (known_P,) = np.nonzero(track_N >= 0)
        track_P = track_N[known_P]
        variance_P4 = _noise(state_T42[track_P, :, 0])[..., 0] ** 2
        row_P412 = covariance_T422[track_P, :, :1]
        gain_P42 = row_P412[..., 0, :] / (row_P412[..., 0, :1] + variance_P4[..., None])
        state_T42[track_P] += gain_P42 * (boxes_N4[known_P] - state_T42[track_P, :, 0])[..., None]
        covariance_T422[track_P] -= gain_P42[..., None] * row_P412

        # the others begin tracks, at rest
        (new_Q,) = np.nonzero(track_N < 0)
        new_Q4 = boxes_N4[new_Q]
        noise_Q42 = _noise(new_Q4) * (2, NEW_VELOCITY_NOISE_FACTOR)
        track_N[new_Q] = len(self._ids_T) + np.arange(len(new_Q))
        ids_T = np.concatenate((self._ids_T, self._begun + 1 + np.arange(len(new_Q))))
        self._begun += len(new_Q)
        missed_T = np.concatenate((self._missed_T + 1, np.zeros_like(new_Q)))
        missed_T[track_N] = 0
        is_kept_T = missed_T <= self.max_missed_frames
        self._ids_T, self._missed_T = ids_T[is_kept_T], missed_T[is_kept_T]
        self._classes_T = np.concatenate((self._classes_T, result.class_ids[new_Q]))[is_kept_T]
        new_Q42 = np.stack((new_Q4, np.zeros_like(new_Q4)), axis=2)
        self._state_T42 = np.concatenate((state_T42, new_Q42))[is_kept_T]
        new_Q422 = noise_Q42[..., None] ** 2 * np.eye(2)
        self._covariance_T422 = np.concatenate((covariance_T422, new_Q422))[is_kept_T]
        return replace(result, track_ids=ids_T[track_N])

    def _assign(
        self, predicted_T4: NDArray[np.float64], boxes_N4: NDArray[np.float64], classes_N: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the track of each detection, or -1; the best pairs first."""
        is_same_TN = self._classes_T[:, None] == classes_N
        track_N = np.full(len(boxes_N4), -1)
        for enlargement in (1.0, LOST_BOX_ENLARGEMENT):
            scale_4 = np.array((1, 1, enlargement, enlargement))
            first_T4, second_N4 = (torch.from_numpy(boxes * scale_4) for boxes in (predicted_T4, boxes_N4))
            iou_TN = np.where(is_same_TN, iou(first_T4[:, None], second_N4).numpy(), 0)
            while iou_TN.size:
                best_T, best_N = iou_TN.argmax(axis=1), iou_TN.argmax(axis=0)
                is_pair_T = (best_N[best_T] == np.arange(len(best_T))) & (iou_TN.max(axis=1) > MIN_ASSIGNMENT_IOU)
                if not is_pair_T.any():
                    break
                (track_P,) = np.nonzero(is_pair_T)
                track_N[best_T[track_P]] = track_P
                for pairs_TN in (iou_TN, is_same_TN):
                    pairs_TN[track_P] = 0
                    pairs_TN[:, best_T[track_P]] = 0
        return track_N


def _noise(boxes_P4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations of position and velocity of each value of boxes, (P, 4, 2)."""
    sides_P4 = np.tile(np.maximum(boxes_P4[:, 2:], MIN_SIDE_FRAC), 2)
    return sides_P4[..., None] * (POSITION_NOISE_SHARE, VELOCITY_NOISE_SHARE)
