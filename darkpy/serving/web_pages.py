"""Pages of the servers: self-contained, so that they work without a network, and restricted to one script."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from darkpy.diagnostics.report.style import style_sheet
from darkpy.serving.http_messages import HTML_TYPE, HttpRequest, HttpResponse

_PAGE_RULES = """
body{min-height:100vh}
main.wide,header.wide{max-width:1600px}
.screen{margin:14px 0 0;background:var(--panel);border:1px solid var(--grid);border-radius:6px;overflow:hidden;
 display:grid;place-items:center;min-height:200px}
.screen img{max-height:calc(100vh - 170px);width:auto}
.status{margin:10px 0 0;font-variant-numeric:tabular-nums}
.status.bad{color:var(--bad)}
.status::before{content:"";display:inline-block;width:9px;height:9px;border-radius:50%;background:#2da44e;
 margin-right:8px}
.status.bad::before,.status.idle::before{background:var(--muted)}
.drop{display:block;margin:18px 0 0;padding:34px 20px;border:2px dashed var(--muted);border-radius:6px;
 text-align:center;cursor:pointer;background:var(--panel)}
.drop.over,.drop:focus-within{border-color:var(--first)}
.drop input{position:absolute;opacity:0;width:1px;height:1px}
.link{color:var(--first);text-decoration:underline}
.overlay{position:relative}
.overlay svg{position:absolute;inset:0;width:100%;height:100%}
.overlay svg text{font:600 1px system-ui,-apple-system,"Segoe UI",sans-serif}
#found{margin:14px 0 0}
[hidden]{display:none!important}
#connection,#top>.status{max-width:940px;margin:16px auto 0;padding:0 20px}
footer{max-width:1600px;margin:20px auto;padding:0 20px;color:var(--muted);font-size:13px}
"""
_VIDEO_SCRIPT = """
const image = document.getElementById("live"), state = document.getElementById("state");
let lost = false;
image.onerror = () => { lost = true; };
async function poll() {
  try {
    const answer = await fetch("status.json", {cache: "no-store"});
    if (!answer.ok) throw new Error(answer.statusText);
    const status = await answer.json();
    if (lost) { image.src = "stream.mjpg?" + Date.now(); lost = false; }
    const objects = Object.entries(status.objects).map(([name, count]) => count > 1 ? `${count} ${name}` : name);
    state.textContent = status.frame === null ? "Waiting for the first frame" :
      `Frame ${status.frame} · ${status.rate.toFixed(1)} frames/s · ${objects.join(", ") || "no object"}`;
    state.className = "status";
  } catch (error) {
    lost = true;
    state.textContent = "No answer: the program has ended or was stopped.";
    state.className = "status bad";
  }
  setTimeout(poll, 1000);
}
poll();
"""
_TRAINING_SCRIPT = """
let tag = "";
function merge(parent, next) {  // replaces the sections that have changed, so that the others keep their state
  const sections = [...next.children].filter((child) => child.id), names = new Set(sections.map((child) => child.id));
  for (const old of [...parent.children]) if (!names.has(old.id)) old.remove();
  let place = parent.firstElementChild;
  for (const section of sections) {
    if (place?.id !== section.id) { parent.insertBefore(section, place); continue; }
    const old = place, shown = old.querySelectorAll("details");
    place = old.nextElementSibling;
    section.querySelectorAll("details").forEach((item, index) => { item.open = shown[index]?.open ?? false; });
    if (!old.isEqualNode(section)) old.replaceWith(section);
  }
}
async function poll() {
  try {
    const answer = await fetch("run.html", {headers: {"If-None-Match": tag}, cache: "no-store"});
    if (answer.status === 200) {
      tag = answer.headers.get("ETag");
      const next = new DOMParser().parseFromString(await answer.text(), "text/html").body;
      const main = next.querySelector("main");
      if (main) { main.remove(); merge(document.querySelector("main"), main); }
      document.getElementById("top").replaceChildren(...next.children);
      document.title = document.querySelector("h1")?.textContent ?? "Training";
    } else if (answer.status !== 304) throw new Error(answer.statusText);
    lost(false);
  } catch (error) { lost(true); }
  setTimeout(poll, 2000);
}
function lost(is) {
  const state = document.getElementById("connection");
  state.textContent = is ? "No answer: the training has ended or was stopped. This is its last state." : "";
  state.className = is ? "status bad" : "";
}
poll();
"""
_IMAGE_SCRIPT = """
const drop = document.getElementById("drop"), input = document.getElementById("file");
const state = document.getElementById("state"), view = document.getElementById("view");
const image = document.getElementById("image"), boxes = document.getElementById("boxes");
const table = document.querySelector("tbody"), found = document.getElementById("found");
const color = (id) => `hsl(${(id * 137.5) % 360} 85% 45%)`;
function say(text, kind) { state.textContent = text; state.className = `status ${kind}`; }
function shape(name, parent, values, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  parent.append(node);
}
function show(result, milliseconds) {
  const {width, height} = result, size = Math.max(width, height) / 45, findings = result.objects ?? result.classes;
  boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const labels = new Map();  // a box may have several classes
  for (const {class_id, name, confidence, box, box_px} of findings) {
    const key = JSON.stringify(box), text = `${name} ${Math.round(100 * confidence)}%`;
    if (labels.has(key)) labels.get(key).text += `, ${text}`;
    else if (box) labels.set(key, {box, text, stroke: color(class_id)});
    const row = table.insertRow();
    for (const cell of [name, `${(100 * confidence).toFixed(1)} %`, ...(box_px ?? (box ? ["", "", "", ""] : []))])
      row.insertCell().textContent = cell;
  }
  for (const {box, text, stroke} of labels.values()) {
    const x = (box.x - box.w / 2) * width, y = (box.y - box.h / 2) * height, top = Math.max(y, size * 1.3);
    shape("rect", boxes, {x, y, width: box.w * width, height: box.h * height, fill: "none", stroke,
                          "stroke-width": size / 6});
    shape("rect", boxes, {x, y: top - size * 1.3, width: text.length * size * 0.66, height: size * 1.3, fill: stroke});
    shape("text", boxes, {x: x + size * 0.2, y: top - size * 0.35, fill: "#fff", style: `font-size:${size}px`}, text);
  }
  found.hidden = !findings.length;
  const count = findings.length === 1 ? "1 object" : `${findings.length || "no"} objects`;
  say(`${result.objects ? count : findings[0]?.name ?? "no class"} in ${Math.round(milliseconds)} ms`, "");
}
async function post(file) {
  if (!file) return;
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(file);
  view.hidden = false;
  found.hidden = true;
  boxes.replaceChildren();
  table.replaceChildren();
  say("Waiting for the network", "idle");
  const began = performance.now();
  try {
    const headers = {"Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream"};
    const answer = await fetch(document.querySelector("main").dataset.verb, {method: "POST", headers, body: file});
    const result = await answer.json();
    if (answer.ok) show(result, performance.now() - began);
    else say(result.error, "bad");
  } catch (error) { say("No answer: the server has ended or was stopped.", "bad"); }
}
input.onchange = () => post(input.files[0]);
document.onpaste = (event) => post(event.clipboardData.files[0]);
document.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
document.ondragleave = () => drop.classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  post(event.dataTransfer.files[0]);
};
"""


def image_page(title: str, verb: str, noun: str) -> HttpResponse:
    """Page on which an image is dropped, and its objects or classes are shown: the answer of the path `verb`."""
    columns = ("class", "confidence", *(("left", "top", "right", "bottom") if verb == "detect" else ()))
    head = "".join(f'<th scope="col">{text}</th>' for text in columns)
    body = (
        f"<header class=wide><h1>{escape(title)}</h1><p class=muted>{noun} with darkpy</p></header>"
        f"<main class=wide data-verb={verb}><label id=drop class=drop>Drop an image here, paste one, or "
        '<span class=link>choose a file</span><input id=file type=file accept="image/*"></label>'
        '<p id=state class="status idle" role=status>Ready</p>'
        "<div id=view class=screen hidden><div class=overlay>"
        '<img id=image alt="The image"><svg id=boxes role=img aria-label="Boxes of the objects"></svg></div></div>'
        f"<div id=found class=scroll tabindex=0 hidden><table><thead><tr>{head}</tr></thead><tbody></tbody></table>"
        f'</div></main><footer>For programs: POST an image to <a href="{verb}">{verb}</a>; '
        '<a href="openapi.json">openapi.json</a>, <a href="health">health</a></footer>'
    )
    return page(title, body, _IMAGE_SCRIPT)


def training_page() -> HttpResponse:
    """Page of a training, whose script polls `run.html`."""
    body = '<p id=connection role=status></p><div id=top><p class="status idle">Loading</p></div><main></main>'
    return page("Training", body, _TRAINING_SCRIPT)


def video_page(title: str, source: str) -> HttpResponse:
    """Page with the frames of a video as they are detected."""
    body = (
        f"<header class=wide><h1>{escape(title)}</h1><p class=muted>{escape(source)}</p></header>"
        '<main class=wide><p id=state class="status idle" role=status>Waiting for the first frame</p>'
        '<div class=screen><img id=live src="stream.mjpg" alt="Frames with the boxes of their detections"></div></main>'
        '<footer>For programs: <a href="stream.mjpg">stream.mjpg</a>, <a href="status.json">status.json</a></footer>'
    )
    return page(title, body, _VIDEO_SCRIPT)


def page(title: str, body: str, script: str) -> HttpResponse:
    """Answer with a page. Its policy lets it load images from this server and run `script`, nothing else."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src 'self' data: blob:; style-src 'unsafe-inline'; connect-src 'self'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style_sheet()}{_PAGE_RULES}</style></head>"
        f"<body>{body}<script>{script}</script></body></html>\n"
    )
    return HttpResponse(
        body=html.encode(errors="replace"), content_type=HTML_TYPE, headers={"Content-Security-Policy": policy}
    )


def is_browser(request: HttpRequest) -> bool:
    """True for a request for text/html; programs that read a stream accept anything."""
    return "text/html" in request.headers.get("accept", "")
