// The live packet log: a bounded list of which only the rows in sight are elements.

import { el } from "./dom.js";

const KEPT = 5000;
// On a phone a row has two lines: who, and what.
const narrow = window.matchMedia("(max-width: 40rem)");
const height = () => (narrow.matches ? 42 : 20);
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
    this.source.addEventListener("error", ({ target }) => this.fail(target));
    for (const name of ["packet", "broker", "state", "trouble", "refused", "forgotten", "uplink", "missed"]) {
      this.source.addEventListener(name, (message) => this.add(JSON.parse(message.data)));
    }
  }

  // The gateway says why it refuses, but not to an EventSource.
  fail(source) {
    if (source.readyState !== EventSource.CLOSED) return;
    this.add({ at: Date.now() / 1000, event: "refused", text: "the gateway sends nothing: is there such a type? PUBLISH is one" });
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
    const row = height();
    const follows = view.scrollTop + view.clientHeight >= this.spacer.offsetHeight - 3 * row;
    this.spacer.style.height = `${this.rows.length * row}px`;
    if (follows) view.scrollTop = this.rows.length * row;
    const first = Math.max(0, Math.floor(view.scrollTop / row) - 5);
    const last = Math.min(this.rows.length, first + Math.ceil(view.clientHeight / row) + 10);
    const shown = [];
    for (let index = first; index < last; index += 1) {
      const element = line(this.rows[index]);
      element.style.top = `${index * row}px`;
      shown.push(element);
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
  const row = el("div", { class: `row ${kind}` }, el("span", {}, `${clock} ${who.padEnd(16)} `), el("span", {}, `${ARROWS[event.direction] ?? "  * "} ${text}`));
  row.title = `${event.link ?? "broker"} ${event.address ?? ""}`;
  return row;
}
