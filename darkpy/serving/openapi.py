"""OpenAPI description of the detection service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

OPENAPI_VERSION, API_VERSION = "3.1.0", "1.0"
_ERROR_TEXTS = {
    "400": "The image is damaged or missing, or the request is malformed.",
    "403": "The request comes from a page of another site.",
    "408": "The request did not come in time.",
    "411": "The length of the body is missing.",
    "413": "The image has too many bytes or pixels.",
    "415": "The body is no image.",
    "500": "The server failed.",
    "503": "Too many requests are waiting; try again after the seconds in Retry-After.",
}


def service_description(title: str, max_bytes: int, max_pixels: int, names: Sequence[str]) -> dict[str, Any]:
    """Describe the service of a network; `names` are its classes."""
    fraction = {"type": "number", "description": "Fraction of the image's width or height."}
    pixels = {"type": ["array", "null"], "items": {"type": "integer"}, "minItems": 4, "maxItems": 4}
    detection = _record(
        {
            "class_id": {"type": "integer", "minimum": 0},
            "name": {"type": "string", "examples": list(names[:3])},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "box": _record(dict.fromkeys("xywh", fraction), "Center, width and height, not clipped to the image."),
            "box_px": {**pixels, "description": "Left, top, right, bottom in pixels, clipped to the image."},
        }
    )
    answer = _record(
        {
            "width": {"type": "integer"},
            "height": {"type": "integer"},
            "objects": {"type": "array", "items": detection, "description": "The highest confidence first."},
        }
    )
    health = _record(
        {
            "status": {"type": "string", "const": "ok"},
            "network": {"type": "string"},
            "classes": {"type": "integer"},
            "waiting": {"type": "integer", "description": "Images that wait for the network."},
        }
    )
    image = {"schema": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}}
    error = _json_content(_record({"error": {"type": "string"}}))
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": f"Detection with {title}", "version": API_VERSION},
        "paths": {
            "/detect": {
                "post": {
                    "operationId": "detect",
                    "summary": "Detect the objects on an image.",
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
                        "200": {"description": "Detections", "content": _json_content(answer)},
                        **{status: {"description": text, "content": error} for status, text in _ERROR_TEXTS.items()},
                    },
                }
            },
            "/health": {
                "get": {
                    "operationId": "health",
                    "summary": "Tell that the service is running.",
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
