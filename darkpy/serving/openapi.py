"""OpenAPI description of `darkpy serve`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

OPENAPI_VERSION, API_VERSION = "3.1.0", "1.1"
_TASK_SUMMARIES = {"detect": "Detect the objects on an image.", "classify": "Classify an image."}
_ERROR_TEXTS = {
    "400": "The image is damaged or missing, or the request is malformed.",
    "403": "The request comes from a page of another site.",
    "408": "The request did not arrive in time.",
    "411": "The length of the body is missing.",
    "413": "The image has too many bytes or pixels.",
    "415": "The body is not an image.",
    "500": "The server failed.",
    "503": "Too many requests are waiting; try again after the seconds in Retry-After.",
}


def detection_schema(names: Sequence[str]) -> dict[str, Any]:
    """Schema of the detections on an image; `names` are the classes."""
    fraction = {"type": "number", "description": "Fraction of the image's width or height."}
    pixels = {"type": ["array", "null"], "items": {"type": "integer"}, "minItems": 4, "maxItems": 4}
    detection = _record(
        {
            **_class_properties(names),
            "box": _record(dict.fromkeys("xywh", fraction), "Center, width and height, not clipped to the image."),
            "box_px": {**pixels, "description": "Left, top, right, bottom in pixels, clipped to the image."},
        }
    )
    return _image_record("objects", detection)


def classification_schema(names: Sequence[str]) -> dict[str, Any]:
    """Schema of the best classes of an image; `names` are those of all classes."""
    return _image_record("classes", _record(_class_properties(names)))


def _class_properties(names: Sequence[str]) -> dict[str, Any]:
    return {
        "class_id": {"type": "integer", "minimum": 0},
        "name": {"type": "string", "examples": list(names[:3])},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    }


def _image_record(key: str, item: dict[str, Any]) -> dict[str, Any]:
    """Schema of an image's size and of a list of findings under `key`."""
    found = {"type": "array", "items": item, "description": "The highest confidence first."}
    return _record({"width": {"type": "integer"}, "height": {"type": "integer"}, key: found})


def service_description(
    title: str, verb: str, schema: dict[str, Any], max_bytes: int, max_pixels: int
) -> dict[str, Any]:
    """Describe a service that answers an image posted to `/VERB` with a record of this schema."""
    health = _record(
        {
            "status": {"type": "string", "const": "ok"},
            "network": {"type": "string"},
            "task": {"type": "string", "const": verb},
            "classes": {"type": "integer"},
            "waiting": {"type": "integer", "description": "Images that wait for the network."},
        }
    )
    image = {"schema": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}}
    error = _json_content(_record({"error": {"type": "string"}}))
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": title, "version": API_VERSION},
        "paths": {
            f"/{verb}": {
                "post": {
                    "operationId": verb,
                    "summary": _TASK_SUMMARIES[verb],
                    "description": f"At most {max_bytes} bytes and {max_pixels} pixels.",
                    "requestBody": {
                        "required": True,
                        "content": {
                            "image/*": image,
                            "application/octet-stream": image,
                            "multipart/form-data": form,
                        },
                    },
                    "responses": {
                        "200": {"description": "The image was read.", "content": _json_content(schema)},
                        **{status: {"description": text, "content": error} for status, text in _ERROR_TEXTS.items()},
                    },
                }
            },
            "/health": {
                "get": {
                    "operationId": "health",
                    "summary": "Report that the service is running.",
                    "responses": {"200": {"description": "It is running.", "content": _json_content(health)}},
                }
            },
        },
    }


def _record(properties: dict[str, Any], description: str = "") -> dict[str, Any]:
    """Schema of an object whose properties are all there."""
    record = {"type": "object", "properties": properties, "required": list(properties)}
    return {**record, "description": description} if description else record


def _json_content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
