// A line chart of the last minutes, drawn on a canvas.

import { el, fill } from "./dom.js";

const POINTS = 150;

export class Chart {
  constructor(title, unit, names, colours = ["--accent", "--warn"]) {
    this.title = title;
    this.unit = unit;
    this.names = names;
    this.colours = colours;
    this.points = [];
  }

  add(values) {
    this.points.push(values);
    if (this.points.length > POINTS) this.points.shift();
    this.draw();
  }

  mount(section) {
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", this.title);
    this.caption = document.createElement("p");
    this.caption.className = "note";
    section.append(this.canvas, this.caption);
    this.draw();
    return section;
  }

  draw() {
    const canvas = this.canvas;
    if (!canvas?.isConnected) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    [canvas.width, canvas.height] = [width * ratio, height * ratio];
    const style = getComputedStyle(document.documentElement);
    const colours = this.colours.map((name) => style.getPropertyValue(name));
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const top = Math.max(1e-9, ...this.points.flat().filter((value) => value != null));
    context.fillStyle = style.getPropertyValue("--faint");
    context.font = "11px system-ui";
    context.fillText(`${round(top)} ${this.unit}`, 2, 11);
    this.names.forEach((_, series) => {
      context.strokeStyle = colours[series];
      context.lineWidth = 1.6;
      context.beginPath();
      let pen = false;
      this.points.forEach((values, index) => {
        const value = values[series];
        if (value == null) { pen = false; return; }
        const x = width - (this.points.length - 1 - index) * (width / (POINTS - 1));
        const y = height - 3 - (value / top) * (height - 20);
        if (pen) context.lineTo(x, y); else context.moveTo(x, y);
        pen = true;
      });
      context.stroke();
    });
    const last = this.points.at(-1) ?? [];
    const words = this.names.map((name, i) => `${name} ${last[i] == null ? "-" : round(last[i])} ${this.unit}`);
    fill(this.caption, words.map((text, i) => el("span", {}, el("span", { class: "key", style: `background: ${colours[i]}` }), `${text}\u2003`)));
    canvas.setAttribute("aria-label", `${this.title}: ${words.join(", ")}`);
  }
}

const round = (value) => (value >= 10 ? Math.round(value) : Math.round(value * 100) / 100).toLocaleString();
