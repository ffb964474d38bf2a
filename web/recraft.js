/** ReCraft shows how its picture will be fitted to a cell of the grid: whole, centred, with white around it. */
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addPanel, lastOutput, onOutput, viewURL } from "./panel.js";
import { addStyles, after, element, widget, wired } from "./shared.js";
import { say } from "./texts.js";

const RECRAFT = "MakeAnythingReCraft";
const EMPTY_GRID = "MakeAnythingEmptyGrid";
const LOADERS = ["LoadImage", "LoadImageOutput"];
const OUTPUT = "makeanything_fit";
const HEIGHT = 170;
/** Edges in pixels of the cells that FLUX.1-dev learned. */
const LEARNED = { "9 frames (3x3)": 352, "4 frames (2x2)": 512 };

class Fit {
  constructor(node) {
    this.node = node;
    this.image = element("img", { alt: say("The picture in its cell"), draggable: false });
    this.image.onload = () => this.draw();
    this.cell = element("div", { className: "cell" });
    this.cell.append(this.image);
    this.text = element("output", {});
    this.panel = element("div", { className: "makeanything-fit", role: "group", ariaLabel: say("Fit to the cell") });
    this.panel.append(this.cell, this.text);
    onOutput(node, OUTPUT, () => this.update());
  }

  /** Shows the file that is wired in, else what the last run sent (nodes/browser/previews.py). */
  update() {
    const origin = sourceOf(this.node, "image");
    const [sent] = lastOutput(this.node, OUTPUT) ?? [];
    const file = origin && (fileOf(origin) ?? sent);
    this.sent = file === sent ? sent : null;
    this.panel.hidden = !file;
    if (!file) return;
    this.widget ??= addPanel(this.node, "makeanything_fit", this.panel, HEIGHT);
    const key = JSON.stringify(file);
    if (key === this.key) this.draw();
    else this.image.src = viewURL(file);
    this.key = key;
  }

  draw() {
    const { naturalWidth, naturalHeight } = this.image;
    if (!naturalWidth) return;
    // What the server sends is smaller than the picture.
    const [width, height] = this.sent?.picture ?? [naturalWidth, naturalHeight];
    const known = cellOf(this.node) ?? this.sent?.cell;
    const cell = known ?? [1, 1];
    const scale = Math.min(cell[0] / width, cell[1] / height);
    const [across, down] = [(width * scale) / cell[0], (height * scale) / cell[1]];
    this.cell.style.aspectRatio = cell.join(" / ");
    Object.assign(this.image.style, { width: `${100 * across}%`, height: `${100 * down}%` });
    const rest = across < 1 ? "white left and right" : down < 1 ? "white above and below" : "fills the cell";
    this.text.value = `${width} x ${height} px → ${known ? `${cell.join(" x ")} px` : say("a square cell")}, ${say(rest)}`;
  }
}

/** The node that an input is wired to. */
function sourceOf(node, name) {
  let source = node.graph && node.getInputNode(node.findInputSlot(name));
  while (source?.type === "Reroute") source = source.getInputNode(0);
  return source;
}

/** The file that a Load Image node has chosen. */
function fileOf(node) {
  const name = LOADERS.includes(node.comfyClass) && widget(node, "image")?.value;
  if (!name) return undefined;
  const [, subfolder, filename, type] = name.match(/^(?:(.*)\/)?(.*?)(?: \[(input|output|temp)\])?$/);
  return { filename, subfolder, type: type ?? "input" };
}

/** Width and height in pixels of the cell, where the graph tells before it runs. */
function cellOf(node) {
  const edge = wired(node, "cell") ? null : widget(node, "cell")?.value;
  if (edge) return [edge, edge];
  const grid = sourceOf(node, "latent");
  if (grid) return [EMPTY_GRID, RECRAFT].includes(grid.comfyClass) ? cellOf(grid) : null;
  const learned = LEARNED[widget(node, "layout")?.value];
  return learned && [learned, learned];
}

const fits = new Map();

function updateAll() {
  for (const fit of fits.values()) fit.update();
}

addStyles(`
.makeanything-fit { box-sizing: border-box; display: flex; flex-direction: column; align-items: center; gap: 4px;
  height: 100%; min-height: ${HEIGHT}px; color: color-mix(in srgb, var(--descrip-text), var(--input-text)); font-size: 11px; text-align: center; }
.makeanything-fit[hidden] { display: none; }
.makeanything-fit .cell { display: flex; align-items: center; justify-content: center; flex: 1; min-height: 0;
  max-width: 100%; border: 1px solid var(--border-color);
  background: repeating-linear-gradient(45deg, #fff 0 5px, #e4e4e4 5px 10px); }
.makeanything-fit img { display: block; background: #fff; pointer-events: none; }
`);

app.registerExtension({
  name: "makeanything.recraft",
  setup() {
    api.addEventListener("graphChanged", updateAll);
  },
  nodeCreated(node) {
    if (LOADERS.includes(node.comfyClass)) after(widget(node, "image"), "callback", updateAll);
    if (node.comfyClass !== RECRAFT) return;
    fits.set(node, new Fit(node));
    after(node, "onRemoved", () => fits.delete(node));
  },
  afterConfigureGraph: updateAll,
  onNodeOutputsUpdated: updateAll,
});
