// The page: one view at a time, chosen by the part of the address after #.

import { el, fill, state, duration, time, number, get, post } from "./dom.js";
import { Chart } from "./charts.js";
import { PacketLog } from "./packets.js";

const main = document.getElementById("main");
const PAGE = 100;
let view = null;
let last = null;

const charts = {
  messages: new Chart("Messages a second", "/s", ["from nodes", "to nodes"]),
  loss: new Chart("Loss: packets that were repeated", "%", ["of all"]),
  latency: new Chart("Latency to the broker, mean", "ms", ["QoS 1", "QoS 2"]),
  nodes: new Chart("Nodes by state", "", ["active", "asleep", "connecting", "lost", "disconnected"],
    ["--good", "--accent", "--warn", "--bad", "--faint"]),
};

// A section with a heading; `wide` takes the whole row.
const section = (title, wide, ...children) =>
  el("section", { class: wide ? "wide" : "" }, el("h2", {}, title), ...children);

function table(caption, heads, rows) {
  const cell = (value, column) => {
    const td = value instanceof Element && value.tagName === "TD" ? value : el("td", {}, value);
    td.dataset.label = heads[column];
    return td;
  };
  return el("div", { class: heads.length > 4 ? "scroll cards" : "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map(cell))))));
}

const list = (entries) => el("dl", {}, Object.entries(entries).filter(([, value]) => value != null)
  .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

const signal = (heard) => heard.signal == null ? ""
  : `${heard.signal} dBm${heard.quality == null ? "" : `, quality ${heard.quality}`}`;

const reasons = (counts) => Object.entries(counts).filter(([, count]) => count)
  .map(([name, count]) => `${name.replaceAll("_", " ")} ${count.toLocaleString()}`).join(", ") || null;

// Lets a link lead to a node; what it is called is text.
function nodeLink(link, id) {
  link.href = `#/node/${encodeURIComponent(id)}`;
  link.title = id;
  link.textContent = id;
  return link;
}

const set = (element, text) => { if (element.textContent !== text) element.textContent = text; };

function due(node, now) {
  if (node.due == null) return "";
  const left = node.due - now;
  const what = node.state === "asleep" ? "wakes" : "due";
  return left >= 0 ? `${what} in ${duration(left)}` : `${duration(-left)} overdue`;
}

async function act(path, body) {
  try {
    say((await post(path, body)).done, false);
    view?.tick?.();
  } catch (error) { say(error.message, true); }
}

function say(text, bad) {
  const place = document.getElementById("trouble");
  place.textContent = text;
  place.hidden = !text;
  place.style.color = bad ? "" : "inherit";
}

// Takes a new picture of the gateway into the heading and the charts.
function note(gateway) {
  const heading = document.getElementById("name");
  heading.textContent = `${gateway.name} ${gateway.version}`;
  document.title = gateway.name;
  const broker = gateway.broker;
  fill(document.getElementById("broker"), state(broker.up ? "up" : "down",
    `broker ${broker.address} ${broker.up ? "up" : "not reached"}${broker.since ? ` since ${time(broker.since)}` : ""}`));
  const sum = (counts) => counts.reduce((a, b) => a + b, 0);
  const now = {
    at: gateway.now, up: sum(gateway.traffic.uplink), down: sum(gateway.traffic.delivered),
    repeats: gateway.traffic.retransmissions + gateway.traffic.duplicates,
    packets: gateway.traffic.datagrams_in + gateway.traffic.datagrams_out,
    took: ["uplink_qos1", "uplink_qos2"].map((name) => gateway.latency[name]),
  };
  if (last && now.at > last.at) {
    const rate = (name) => Math.max(0, now[name] - last[name]) / (now.at - last.at);
    charts.messages.add([rate("up"), rate("down")]);
    const packets = now.packets - last.packets;
    charts.loss.add([packets > 0 ? (100 * (now.repeats - last.repeats)) / packets : 0]);
    charts.latency.add(now.took.map((latency, i) => {
      const count = latency.count - last.took[i].count;
      return count > 0 ? (latency.mean * latency.count - (last.took[i].mean ?? 0) * last.took[i].count) / count : null;
    }));
    const { active, asleep, awake, connecting, lost, disconnected } = gateway.nodes;
    charts.nodes.add([active, asleep + awake, connecting, lost, disconnected]);
  }
  last = now;
}

const WAYS = { uplink_qos1: "to the broker, QoS 1", uplink_qos2: "to the broker, QoS 2",
  downlink_qos1: "to nodes, QoS 1", downlink_qos2: "to nodes, QoS 2" };

// A bar a bucket; the words say the same.
function histogram(buckets) {
  const top = Math.max(1, ...buckets.map((bucket) => bucket.count));
  const words = (bucket) => `${bucket.up_to == null ? "longer" : `up to ${millis(bucket.up_to)}`}: ${bucket.count.toLocaleString()}`;
  return el("span", { class: "bars", role: "img", "aria-label": buckets.filter((bucket) => bucket.count).map(words).join(", ") || "none yet" },
    buckets.map((bucket) => el("span", { title: words(bucket), style: `height: ${bucket.count ? Math.max(8, (100 * bucket.count) / top) : 0}%` })));
}

const millis = (ms) => (ms == null ? "-" : ms < 1000 ? `${number(ms)} ms` : `${number(ms / 1000)} s`);

class Overview {
  constructor() {
    this.summary = section("Gateway", false);
    this.latency = section("Latency", true);
    this.links = section("Links", true);
    this.refused = section("Refused lately", true);
    this.before = new Map();
    fill(main, this.summary, ...Object.values(charts).map((chart) => chart.mount(section(chart.title, false))), this.latency, this.links, this.refused);
  }

  async tick(gateway) {
    const links = await get("/api/links");
    fill(this.summary, el("h2", {}, "Gateway"),
      el("p", { class: "big" }, `${gateway.nodes_total.toLocaleString()} ${gateway.nodes_total === 1 ? "node" : "nodes"}`), list({
        ...Object.fromEntries(Object.entries(gateway.nodes).filter(([, count]) => count)),
        "running since": new Date(gateway.started * 1000).toLocaleString(),
        "messages up": gateway.traffic.uplink.reduce((a, b) => a + b).toLocaleString(),
        "messages down": gateway.traffic.delivered.reduce((a, b) => a + b).toLocaleString(),
        waiting: `${number(gateway.queued_bytes / 1024)} KiB`,
        permit: gateway.permit && gateway.permit.until > gateway.now
          ? `open for ${duration(gateway.permit.until - gateway.now)}; to keep: ${gateway.permit.keep ?? "nobody yet"}` : null,
      }));
    fill(this.latency, el("h2", {}, "Latency until it is acknowledged, since the start"), table("Latency",
      ["Way", "Messages", "Mean", "50 %", "95 %", "99 % within", "1 ms to 30 s"], Object.entries(WAYS).map(([name, way]) => {
        const latency = gateway.latency[name];
        return [way, latency.count.toLocaleString(), millis(latency.mean), millis(latency.p50), millis(latency.p95), millis(latency.p99),
          histogram(latency.buckets)];
      })));
    fill(this.links, el("h2", {}, "Links"), table("Links",
      ["Link", "State", "Nodes", "In", "Out", "Bytes in", "Bytes out", "Bad", "Damaged octets", "Errors", "Signal", "Last heard", "At"],
      links.links.map((link) => {
        const before = this.before.get(link.name);
        const rate = (name) => before ? `${number((link[name] - before.link[name]) / Math.max(0.1, links.now - before.now))}/s` : "";
        const row = [link.name, state(link.up ? "up" : "down"), link.nodes, rate("datagrams_in"), rate("datagrams_out"),
          link.octets_in.toLocaleString(), link.octets_out.toLocaleString(), link.bad,
          el("td", { title: reasons(link.damage) }, link.type === "serial" ? link.damaged.toLocaleString() : ""),
          el("td", { title: reasons(link.radio) }, link.errors), signal(link),
          link.last_heard ? `${duration(links.now - link.last_heard)} ago` : "never", link.addresses.join(", ")];
        this.before.set(link.name, { link, now: links.now });
        return row;
      })));
    this.refused.hidden = !gateway.refused.length;
    fill(this.refused, el("h2", {}, "Refused lately"), table("Refused", ["Client id", "Address", "Times", "Last", "Why"],
      gateway.refused.map((refused) => [el("td", { class: "id" }, nodeLink(el("a"), refused.client_id)), refused.address, refused.times,
        `${duration(gateway.now - refused.at)} ago`, el("td", { class: "wrap" }, refused.reason)])));
  }
}

// Title and sort key; a column without a key cannot be sorted by.
const COLUMNS = [["Client id", "client_id"], ["State", "state"], ["Last heard", "last_heard"], ["Due", "due"], ["Signal", "signal"],
  ["Waiting", "queued"], ["In", "received"], ["Out", "sent"], ["Repeats", "retries"], ["Rejected", "rejections"], ["Loss"], ["Link"], ["Address"]];

class Nodes {
  constructor() {
    this.offset = 0;
    this.sort = "client_id";
    this.order = "asc";
    this.q = el("input", { id: "q", type: "search", oninput: () => this.changed() });
    this.state = el("select", { id: "state", onchange: () => this.changed() },
      ["", "active", "asleep", "awake", "connecting", "lost", "disconnected"].map((name) => el("option", { value: name }, name || "any")));
    this.heads = COLUMNS.map(([title, sort]) => el("th", { scope: "col" }, sort
      ? el("button", { id: `sort-${sort}`, "aria-label": `Sort by ${title}`, onclick: () => this.sortBy(sort) }, title) : title));
    this.body = el("tbody");
    this.table = el("div", { class: "scroll nodes cards", tabindex: "0", role: "region", "aria-label": "Nodes" },
      el("table", {}, el("thead", {}, el("tr", {}, this.heads)), this.body));
    const step = (title, id, by) => el("button", { id, class: "act", onclick: () => { this.offset = Math.max(0, this.offset + by); this.soon(); } }, title);
    [this.previous, this.next] = [step("Previous", "previous", -PAGE), step("Next", "next", PAGE)];
    this.range = el("span", { role: "status" });
    fill(main, section("Nodes", true, el("div", { class: "bar" },
      el("label", {}, "Client id or address", this.q), el("label", {}, "State", this.state)), this.table,
    el("div", { class: "bar" }, this.previous, this.next, this.range)));
    this.pause = 250;
    this.events = new EventSource("/api/events?packets=0&rate=20");
    for (const name of ["state", "forgotten"]) this.events.addEventListener(name, () => this.soon());
  }

  close() { this.events.close(); }
  changed() { this.offset = 0; this.soon(); }

  sortBy(sort) {
    this.order = this.sort === sort && this.order === "asc" ? "desc" : "asc";
    this.sort = sort;
    this.soon();
  }

  // Events come in bursts: the list follows at most four times a second, and takes a tenth of the time at most.
  soon() {
    this.timer ??= setTimeout(() => { this.timer = null; this.tick().catch((error) => say(error.message, true)); }, this.pause);
  }

  async tick() {
    const query = new URLSearchParams({ offset: this.offset, limit: PAGE, q: this.q.value, sort: this.sort, order: this.order });
    if (this.state.value) query.set("state", this.state.value);
    const page = await get(`/api/nodes?${query}`);
    if (view !== this) return;
    const begin = performance.now();
    this.draw(page);
    // With its layout, which is done here rather than later.
    this.body.getBoundingClientRect();
    this.pause = Math.min(1000, Math.max(250, 10 * (performance.now() - begin)));
  }

  // Only what differs is written: a row of the page before is a row of this one.
  draw(page) {
    COLUMNS.forEach(([title, sort], column) => {
      if (sort) set(this.heads[column].firstChild, title + (this.sort === sort ? (this.order === "asc" ? " \u2191" : " \u2193") : ""));
    });
    while (this.body.rows.length > page.nodes.length) this.body.deleteRow(-1);
    page.nodes.forEach((node, index) => {
      const row = this.body.rows[index] ?? this.body.appendChild(el("tr", {}, el("td", { class: "id" }, el("a")), el("td", {}, el("span")),
        COLUMNS.slice(2).map(([title]) => el("td", { "data-label": title }))));
      const [link, status] = [row.cells[0].firstChild, row.cells[1].firstChild];
      if (link.title !== node.client_id) nodeLink(link, node.client_id);
      set(status, node.state);
      status.className = `state ${node.state}`;
      [`${duration(page.now - node.last_heard)} ago`, due(node, page.now), node.signal == null ? "" : `${node.signal} dBm`, node.queued,
        node.received, node.sent, node.retries, node.rejections, `${number(node.loss * 100)} %`, node.link, node.address ?? ""]
        .forEach((text, column) => set(row.cells[column + 2], String(text)));
    });
    this.previous.disabled = page.offset === 0;
    this.next.disabled = page.offset + PAGE >= page.matched;
    set(this.range, page.matched ? `${page.offset + 1} to ${page.offset + page.nodes.length} of ${page.matched.toLocaleString()}` : "no node");
  }
}

class NodePage {
  constructor(id) {
    this.id = id;
    this.path = `/api/nodes/${encodeURIComponent(id)}`;
    this.facts = section(id, false);
    this.why = section("Explain", false);
    this.waiting = section("Queue", false);
    this.topics = section("Topics and subscriptions", false);
    this.log = new PacketLog({ node: id });
    const button = (title, action) => el("button", { class: "act", onclick: action }, title);
    fill(main, this.facts, this.why, this.waiting, this.topics, section("Packets of both sides, as they happen", true,
      el("div", { class: "bar" }, button("Clear", () => this.log.clear()),
        button("Disconnect node", () => act(`${this.path}/kick`)),
        button("Forget node", () => confirm(`Forget ${id}?`) && act(`${this.path}/forget`)),
        el("a", { href: `/api/capture.pcap?node=${encodeURIComponent(id)}`, download: "node.pcap" }, "Capture for Wireshark")),
      this.log.element));
    this.log.open();
  }

  close() { this.log.close(); }

  async tick() {
    const why = await get(`${this.path}/explain`);
    if (view !== this) return;
    fill(this.why, el("h2", {}, "Explain"), el("p", {}, el("strong", { id: "verdict" }, why.verdict)),
      el("ul", { class: "steps" }, why.steps.map((step) => el("li", {}, state(step.state, `${step.step}: ${step.text}`),
        step.advice ? el("p", {}, step.advice) : null))));
    let node;
    try { node = await get(this.path); } catch {
      fill(this.facts, el("h2", {}, this.id), el("p", {}, "The gateway has no session of this client id."));
      return;
    }
    if (view !== this) return;
    const counts = (by) => Object.entries(by).map(([type, count]) => `${type} ${count}`).join(", ");
    fill(this.facts, el("h2", {}, node.client_id), list({
      state: state(node.state, `${node.state} since ${time(node.since)}`),
      due: el("span", { id: "due" }, due(node, node.now) || "-"),
      address: node.address, link: node.link, "last heard": `${duration(node.now - node.last_heard)} ago`,
      signal: signal(node) || null, "keep-alive": `${node.keep_alive} s`,
      session: node.clean_session ? "clean" : "kept", Will: node.will_topic,
      "packets in": counts(node.packets_in), "packets out": counts(node.packets_out),
      repeats: `${node.retries} to it, ${node.duplicates} from it`, loss: `${number(node.loss * 100)} % (estimate)`,
    }));
    fill(this.waiting, el("h2", {}, `Queue: ${node.queued}`),
      node.exchange ? el("p", {}, `${node.exchange.packet} msg ${node.exchange.msg_id}, unanswered for ${duration(node.now - node.exchange.since)}, repeated ${node.exchange.repeats} times`) : null,
      table("Queue", ["Topic", "QoS", "Bytes", "Age"], node.queue.slice(0, 50).map((message) =>
        [el("td", { class: "id", title: message.topic }, message.topic), message.qos, message.octets, duration(node.now - message.since)])),
      el("h2", {}, "Last troubles"),
      el("ul", { class: "steps" }, node.troubles.toReversed().map((trouble) => el("li", {}, `${time(trouble.at)} ${trouble.text}`,
        trouble.advice ? el("p", {}, trouble.advice) : null))));
    fill(this.topics, el("h2", {}, "Subscriptions"), table("Subscriptions", ["Filter", "QoS"],
      node.subscriptions.slice(0, 100).map((known) => [el("td", { class: "wrap" }, known.filter), known.qos])),
    el("h2", {}, "Topics"), table("Topics", ["Id", "Name", "State"],
      node.topics.slice(0, 100).map((topic) => [topic.id, el("td", { class: "wrap" }, topic.name), topic.state])));
  }
}

class Topics {
  constructor() {
    this.prefix = el("input", { id: "prefix", type: "search", oninput: () => this.tick().catch((error) => say(error.message, true)) });
    this.table = el("div");
    fill(main, section("Topics nodes registered or subscribed to", true,
      el("div", { class: "bar" }, el("label", {}, "Begins with", this.prefix),
        el("button", { id: "up", class: "act", onclick: () => this.open(this.prefix.value.replace(/[^/]*\/?$/, "")) }, "Up a level")), this.table));
  }

  open(prefix) {
    this.prefix.value = prefix;
    this.tick().catch((error) => say(error.message, true));
  }

  // What shares the next level is one row; what is alone there is shown whole.
  level(topics) {
    const at = this.prefix.value.lastIndexOf("/") + 1;
    const levels = new Map();
    for (const topic of topics) {
      const end = topic.name.indexOf("/", at);
      const name = end < 0 ? topic.name : topic.name.slice(0, end + 1);
      levels.set(name, [...(levels.get(name) ?? []), topic]);
    }
    return [...levels].map(([name, within], index) => within.length === 1
      ? [el("td", { class: "wrap" }, within[0].name), "", within[0].nodes]
      : [el("td", { class: "wrap" }, el("button", { id: `level-${index}`, class: "act", onclick: () => this.open(name) }, name)), within.length, ""]);
  }

  async tick() {
    const found = await get(`/api/topics?${new URLSearchParams({ prefix: this.prefix.value })}`);
    if (view !== this) return;
    fill(this.table, table("Topics", ["Topic", "Topics below", "Nodes"], this.level(found.topics)),
      found.complete ? null : el("p", { class: "note" }, "More than are shown: type the beginning of the name."));
  }
}

class Packets {
  constructor() {
    this.log = new PacketLog({});
    const input = (id) => el("input", { id, type: "search", onchange: () => this.filter() });
    const link = el("select", { id: "f-link", onchange: () => this.filter() }, el("option", { value: "" }, "any"));
    get("/api/links").then((links) => link.append(...links.links.map(({ name }) => el("option", { value: name }, name))))
      .catch((error) => say(error.message, true));
    this.inputs = { node: input("f-node"), link, type: input("f-type") };
    this.direction = el("select", { id: "f-direction", onchange: () => this.filter() },
      [["", "any"], ["in", "from nodes"], ["out", "to nodes"], ["up", "to the broker"], ["down", "from the broker"]]
        .map(([value, text]) => el("option", { value }, text)));
    this.hex = el("input", { id: "f-hex", type: "checkbox", onchange: () => this.filter() });
    this.pause = el("button", { class: "act", "aria-pressed": "false", onclick: () => {
      this.log.paused = !this.log.paused;
      this.log.open();
      this.pause.setAttribute("aria-pressed", this.log.paused);
      this.pause.textContent = this.log.paused ? "Go on" : "Pause";
    } }, "Pause");
    this.capture = el("a", { download: "gateway.pcap" }, "Capture for Wireshark");
    fill(main, section("Packets", true, el("div", { class: "bar" },
      el("label", {}, "Node", this.inputs.node), el("label", {}, "Link", this.inputs.link), el("label", {}, "Type", this.inputs.type),
      el("label", {}, "Direction", this.direction), el("label", {}, "Hex", this.hex), this.pause,
      el("button", { class: "act", onclick: () => this.log.clear() }, "Clear"), this.capture), this.log.element));
    this.filter();
  }

  filter() {
    const query = {};
    for (const [name, input] of Object.entries(this.inputs)) if (input.value) query[name] = input.value;
    if (this.direction.value) query.direction = this.direction.value;
    this.capture.href = `/api/capture.pcap?${new URLSearchParams(query)}`;
    if (this.hex.checked) query.hex = 1;
    this.log.query = query;
    this.log.open();
  }

  close() { this.log.close(); }
}

function route() {
  view?.close?.();
  view = null;
  const [, name = "", id = ""] = location.hash.split("/");
  for (const link of document.querySelectorAll("nav a")) {
    const own = link.getAttribute("href").split("/")[1];
    if (own === name || (own === "nodes" && name === "node")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (name === "nodes") view = new Nodes();
  else if (name === "node") view = new NodePage(decodeURIComponent(id));
  else if (name === "topics") view = new Topics();
  else if (name === "packets") view = new Packets();
  else view = new Overview();
  tick();
}

let ticking = false;
async function tick() {
  if (ticking || document.hidden) return;
  ticking = true;
  const shown = view;
  try {
    const gateway = await get("/api/gateway");
    note(gateway);
    await shown?.tick?.(gateway);
    if (document.getElementById("trouble").dataset.lost) { say("", false); delete document.getElementById("trouble").dataset.lost; }
  } catch (error) {
    say(`The gateway does not answer: ${error.message}`, true);
    document.getElementById("trouble").dataset.lost = "1";
  }
  ticking = false;
  if (shown !== view) tick();
}

window.addEventListener("hashchange", () => { route(); main.focus({ preventScroll: true }); });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Object.values(charts).forEach((chart) => chart.draw()));
setInterval(tick, 1000);
route();
