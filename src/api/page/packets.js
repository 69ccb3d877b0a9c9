// The live packet log: a bounded list of which only the rows in sight are elements.

import { el } from "./dom.js";

const KEPT = 5000;
const ROW = 20;
// Packets a second: more than anybody reads. Of further ones the gateway says how many there were.
const RATE = 200;

export class PacketLog {
  constructor(query) {
    this.query = query;
    this.rows = [];
    this.paused = false;
    this.element = el("div", { class: "log", tabindex: "0", role: "log", "aria-label": "Packets", "aria-live": "off" });
    this.spacer = el("div");
    this.element.append(this.spacer);
    this.element.addEventListener("scroll", () => this.request());
  }

  open() {
    this.close();
    // What happens while it is paused is not heard: it would cost the gateway, too.
    if (this.paused) return;
    this.source = new EventSource(`/api/events?${new URLSearchParams({ ...this.query, rate: RATE })}`);
    for (const name of ["packet", "broker", "state", "trouble", "refused", "forgotten", "uplink", "missed"]) {
      this.source.addEventListener(name, (message) => this.add(JSON.parse(message.data)));
    }
  }

  close() {
    this.source?.close();
    this.source = undefined;
  }


  clear() {
    this.rows = [];
    this.request();
  }

  add(event) {
    this.rows.push(event);
    if (this.rows.length > KEPT + 500) this.rows.splice(0, this.rows.length - KEPT);
    this.request();
  }

  request() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => { this.drawing = false; this.draw(); });
  }

  draw() {
    const view = this.element;
    const follows = view.scrollTop + view.clientHeight >= this.spacer.offsetHeight - 3 * ROW;
    this.spacer.style.height = `${this.rows.length * ROW}px`;
    if (follows) view.scrollTop = this.rows.length * ROW;
    const first = Math.max(0, Math.floor(view.scrollTop / ROW) - 5);
    const last = Math.min(this.rows.length, first + Math.ceil(view.clientHeight / ROW) + 10);
    const shown = [];
    for (let index = first; index < last; index += 1) {
      const row = line(this.rows[index]);
      row.style.top = `${index * ROW}px`;
      shown.push(row);
    }
    view.replaceChildren(this.spacer, ...shown);
  }
}

const ARROWS = { in: "--> ", out: "<-- ", up: "===>", down: "<===" };

function line(event) {
  const at = new Date(event.at * 1000);
  const clock = `${at.toLocaleTimeString([], { hour12: false })}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  const kind = event.dropped || ["trouble", "refused", "missed"].includes(event.event) ? "bad"
    : event.event === "packet" ? event.direction : event.event === "broker" ? "broker" : "event";
  const who = event.node ?? event.address ?? "";
  const text = event.missed
    ? `${event.missed.toLocaleString()} more than are shown: filter by node, link or type, or take a capture`
    : [event.text, event.dropped && `dropped: ${event.dropped}`, event.hex].filter(Boolean).join("  ");
  const row = el("div", { class: `row ${kind}` }, `${clock} ${who.padEnd(16)} ${ARROWS[event.direction] ?? "  * "} ${text}`);
  row.title = `${event.link ?? "broker"} ${event.address ?? ""}`;
  return row;
}
