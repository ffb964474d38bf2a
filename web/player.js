/** Split Frames and Save Sequence play their frames, and show them in the grid with the order they were drawn in. */
import { app } from "../../scripts/app.js";
import { gridOf } from "./grid.js";
import { addPanel, lastOutput, onOutput, viewURL } from "./panel.js";
import { addStyles, after, element } from "./shared.js";
import { say } from "./texts.js";

const NODES = ["MakeAnythingSplitFrames", "MakeAnythingSaveSequence"];
const OUTPUT = "makeanything_frames";
const HEIGHT = 280;
/** Milliseconds that the last frame stays longer. */
const HOLD = 1000;
const KEYS = {
  " ": (player) => player.play(!player.playing),
  ArrowLeft: (player) => player.stopAt(player.index - 1),
  ArrowRight: (player) => player.stopAt(player.index + 1),
  Home: (player) => player.stopAt(0),
  End: (player) => player.stopAt(Infinity),
};
const ICONS = {
  play: "M4 2v12l9-6z",
  pause: "M4 2h3v12H4zM9 2h3v12H9z",
  back: "M12 2v12L5 8zM4 2h2v12H4z",
  forward: "M4 2v12l7-6zM10 2h2v12h-2z",
};

const button = (label, icon, onclick) =>
  element("button", { type: "button", ariaLabel: label, title: label, innerHTML: drawing(icon), onclick });
const drawing = (icon) => `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${ICONS[icon]}"/></svg>`;

/** `sheets` are what the server sent: pictures of all frames of a sequence (nodes/browser/previews.py). */
class Player {
  constructor(node) {
    this.node = node;
    this.sheets = [];
    this.index = 0;
    this.playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.build();
  }

  get sheet() {
    return this.sheets[this.sequences.selectedIndex];
  }

  build() {
    this.canvas = element("canvas", { role: "img" });
    this.overlay = element("div", { className: "overlay", ariaHidden: "true" });
    this.toggle = button(say("Play"), "play", () => this.play(!this.playing));
    this.scrub = element("input", { type: "range", min: 1, ariaLabel: say("Frame") });
    this.scrub.oninput = () => this.stopAt(this.scrub.valueAsNumber - 1);
    this.count = element("output", {});
    this.speed = element("input", { type: "number", min: 0.1, max: 240, step: "any", value: 2 });
    this.speed.title = this.speed.ariaLabel = say("Frames per second");
    this.sequences = element("select", { ariaLabel: say("Sequence"), onchange: () => this.seek(0) });
    this.grid = element("button", { type: "button", textContent: say("Grid") });
    this.grid.title = say("All frames, in the grid's order");
    this.grid.onclick = () => this.setGrid(this.grid.ariaPressed !== "true");
    this.held = element("span", { className: "held", textContent: say("held by ReCraft") });
    this.panel = element("div", { className: "makeanything-player", role: "group", tabIndex: 0 });
    this.panel.ariaLabel = say("Frames");
    this.panel.addEventListener("keydown", (event) => this.press(event));
    const stage = element("div", { className: "stage" });
    stage.append(this.canvas, this.overlay);
    const steps = [button(say("Back"), "back", () => this.stopAt(this.index - 1))];
    steps.push(
      this.toggle,
      button(say("Forward"), "forward", () => this.stopAt(this.index + 1)),
    );
    const bars = [element("div", { className: "bar" }), element("div", { className: "bar" })];
    bars[0].append(...steps, this.scrub, this.count);
    bars[1].append(this.grid, this.sequences, this.held, this.speed, "fps");
    this.panel.append(stage, ...bars);
  }

  /** Loads the sheets; what was shown stays until all of them are there. */
  async show(entries) {
    const images = entries.map((entry) => element("img", { src: viewURL(entry) }));
    this.loading = images;
    await Promise.allSettled(images.map((image) => image.decode()));
    const loaded = entries.map((entry, i) => ({ ...entry, image: images[i] }));
    const sheets = loaded.filter(({ image }) => image.naturalWidth);
    if (this.loading !== images || !sheets.length) return;
    this.sheets = sheets;
    this.open();
  }

  open() {
    this.widget ??= addPanel(this.node, "makeanything_player", this.panel, HEIGHT);
    const count = this.sheets.length;
    this.sequences.replaceChildren(
      ...this.sheets.map((_, i) => new Option(say("{number} of {count}", { number: i + 1, count }))),
    );
    this.sequences.hidden = this.sheets.length === 1;
    if (this.sheets[0].fps) this.speed.value = this.sheets[0].fps;
    this.seek(0);
    this.play(this.playing);
  }

  seek(index) {
    this.index = Math.min(Math.max(index, 0), this.sheet.shown - 1);
    this.draw();
  }

  /** Shows a frame that the user chose; playing stops, so that it stays. */
  stopAt(index) {
    this.play(false);
    this.seek(index);
  }

  play(playing) {
    this.playing = playing;
    this.toggle.innerHTML = drawing(playing ? "pause" : "play");
    this.toggle.ariaLabel = this.toggle.title = say(playing ? "Pause" : "Play");
    clearTimeout(this.timer);
    if (playing) this.timer = setTimeout(() => this.next(), this.delay());
  }

  /** Milliseconds that the frame shown stays. */
  delay() {
    const fps = Math.min(Math.max(this.speed.valueAsNumber || 1, 0.1), 240);
    return 1000 / fps + (this.index === this.sheet.shown - 1 ? HOLD : 0);
  }

  next() {
    this.seek((this.index + 1) % this.sheet.shown);
    this.play(true);
  }

  stop() {
    clearTimeout(this.timer);
    this.loading = null;
  }

  setGrid(pressed) {
    this.grid.ariaPressed = String(pressed);
    this.draw();
  }

  draw() {
    const { sheet, index } = this;
    // The frame's own number: of a long sequence not all frames are on the sheet.
    const number = Math.floor((index * (sheet.frames - 1)) / Math.max(sheet.shown - 1, 1)) + 1;
    this.count.value = this.scrub.ariaValueText = `${number} / ${sheet.frames}`;
    this.scrub.max = sheet.shown;
    this.scrub.value = index + 1;
    const grid = gridOf(this.node, sheet, this.sequences.selectedIndex, this.sheets.length);
    this.grid.hidden = !grid;
    if (grid && this.grid.ariaPressed === "true") this.drawGrid(grid);
    else this.drawFrame(say("Frame {number} of {count}", { number, count: sheet.frames }));
  }

  drawFrame(label) {
    const [width, height] = this.frameSize();
    Object.assign(this.canvas, { width, height, ariaLabel: label });
    this.paste(this.index, 0, 0);
    this.overlay.replaceChildren();
    this.held.hidden = true;
  }

  drawGrid(grid) {
    const [width, height] = this.frameSize();
    const held = grid.held.map((frame) => frame + 1).join(", ");
    const label = say("Grid of {rows} x {cols} frames", grid) + (held && `; ${say("held by ReCraft")}: ${held}`);
    Object.assign(this.canvas, { width: grid.cols * width, height: grid.rows * height, ariaLabel: label });
    for (const [frame, [row, col]] of grid.cells.entries()) this.paste(frame, col * width, row * height);
    this.overlay.innerHTML = grid.draw(width, height, this.index);
    this.held.hidden = !held;
  }

  /** Width and height of a frame on the sheet. */
  frameSize() {
    const { image, columns, shown } = this.sheet;
    return [image.naturalWidth / columns, image.naturalHeight / Math.ceil(shown / columns)];
  }

  paste(frame, x, y) {
    const [width, height] = this.frameSize();
    const place = [(frame % this.sheet.columns) * width, Math.floor(frame / this.sheet.columns) * height];
    this.canvas.getContext("2d").drawImage(this.sheet.image, ...place, width, height, x, y, width, height);
  }

  press(event) {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopPropagation();
    if (event.target.matches("select, [type=number]") || (event.key === " " && event.target.matches("button"))) return;
    event.preventDefault();
    act(this);
  }
}

const players = new Map();

function addPlayer(node) {
  const player = new Player(node);
  // Hides the frontend's own pictures of the same frames: the first is for Vue nodes, the second for the classic canvas.
  node.hideOutputImages = true;
  node.onDrawBackground = () => {};
  players.set(node, player);
  onOutput(node, OUTPUT, (entries) => player.show(entries));
  after(node, "onRemoved", () => {
    player.stop();
    players.delete(node);
  });
}

/** Shows again what the frontend remembers of the last run. */
function restore(node) {
  const entries = lastOutput(node, OUTPUT);
  if (entries) players.get(node)?.show(entries);
}

addStyles(`
.makeanything-player { box-sizing: border-box; display: flex; flex-direction: column; gap: 4px; height: 100%;
  min-height: ${HEIGHT}px; color: var(--input-text); font-size: 11px; }
.makeanything-player .stage { position: relative; flex: 1; min-height: 0; background: var(--comfy-input-bg);
  border: 1px solid var(--border-color); border-radius: 4px; overflow: hidden; }
.makeanything-player .stage :is(canvas, .overlay, .overlay svg) { position: absolute; inset: 0; width: 100%;
  height: 100%; object-fit: contain; }
.makeanything-player .bar { display: flex; align-items: center; gap: 4px; min-height: 24px; }
.makeanything-player .bar > :is(button, select, input[type="number"]) { height: 22px; padding: 0 5px;
  color: var(--input-text); background: var(--comfy-input-bg); border: 1px solid var(--border-color);
  border-radius: 4px; font-size: 11px; }
.makeanything-player button svg { display: block; width: 10px; height: 10px; fill: currentColor; }
.makeanything-player .bar > button[aria-pressed="true"] { border-color: var(--p-primary-color);
  box-shadow: inset 0 0 0 1px var(--p-primary-color); }
.makeanything-player:focus-visible, .makeanything-player .bar > :focus-visible { outline: 2px solid var(--p-primary-color); outline-offset: 1px; }
.makeanything-player [type="range"] { flex: 1; min-width: 0; accent-color: var(--p-primary-color); }
.makeanything-player .bar > [type="number"] { width: 46px; margin-left: auto; padding-right: 0; }
.makeanything-player output { min-width: 34px; text-align: right; font-variant-numeric: tabular-nums; }
.makeanything-player .held::before { content: "▢ "; color: var(--p-primary-color); font-weight: bold; }
.makeanything-player [hidden] { display: none; }
.makeanything-player .overlay * { fill: none; }
.makeanything-player .overlay polyline { stroke: #0009; stroke-linejoin: round; }
.makeanything-player .overlay polyline + polyline { stroke: #fff; }
.makeanything-player .overlay rect { stroke: var(--p-primary-color); }
.makeanything-player .overlay circle { fill: #000c; stroke: #fffc; }
.makeanything-player .overlay circle.current { fill: var(--p-primary-color); }
.makeanything-player .overlay text { fill: #fff; text-anchor: middle; dominant-baseline: central; }
`);

app.registerExtension({
  name: "makeanything.player",
  nodeCreated(node) {
    if (NODES.includes(node.comfyClass)) addPlayer(node);
  },
  loadedGraphNode: restore,
  onNodeOutputsUpdated() {
    for (const node of players.keys()) restore(node);
  },
});
