// The live page: pictures and numbers of every stream as they come over one WebSocket, and what happened before.
"use strict";

// ── small things ────────────────────────────────────────────────────────────────────────────────────────────────────

const byId = (id) => document.getElementById(id);
const sum = (numbers) => numbers.reduce((total, n) => total + n, 0);
const collapse = (perClass, key) => sum(Object.values(perClass).map((counts) => counts[key] ?? 0));

/** An element with its attributes and children; text is always text, never markup. */
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Writes text only where it differs, so that nothing is laid out or read out again for nothing. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Builds an element's children again only when the data that they show have changed. */
const shown = new WeakMap();
function fill(element, data, build) {
  const key = JSON.stringify(data);
  if (shown.get(element) === key) return;
  shown.set(element, key);
  element.replaceChildren(...build(data));
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

function table(title, heads, rows) {
  const head = el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)));
  const body = rows.map(([first, ...rest]) =>
    el("tr", {}, el("th", { scope: "row" }, first), ...rest.map((cell) => el("td", {}, cell))));
  return el("table", {}, el("caption", {}, title), el("thead", {}, head), el("tbody", {}, ...body));
}

// ── words and numbers ───────────────────────────────────────────────────────────────────────────────────────────────

const number = new Intl.NumberFormat();
const minuteFormat = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
const secondFormat = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayFormat = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });

/** A time of today as such, another day's with its date. */
function clockTime(date, format) {
  const today = date.toDateString() === new Date().toDateString();
  return today ? format.format(date) : `${dayFormat.format(date)}, ${format.format(date)}`;
}

function span(seconds, digits = 1) {
  if (seconds < 10) return `${Math.max(seconds, 0).toFixed(digits)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

function streamTime(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function eventTime(event) {
  return event.at ? clockTime(new Date(event.at), secondFormat) : streamTime(event.time ?? 0);
}

/** What an event says in plain words: "person crossed gate, in". */
function eventText(event) {
  if (event.event === "line") return `${event.class} crossed ${event.name}, ${event.direction}`;
  if (event.event === "source") return `camera ${event.state}${event.cause ? `: ${event.cause}` : ""}`;
  if (event.event !== "zone") return [event.class, event.event, event.name, event.direction].filter(Boolean).join(" ");
  if (event.direction === "entered") return `${event.class} entered ${event.name}`;
  const stay = event.dwell === undefined ? "" : ` after ${span(event.dwell)}`;
  return event.ended ? `${event.class} was last seen in ${event.name}${stay}` : `${event.class} left ${event.name}${stay}`;
}

const ICONS = {
  connecting: "connecting", live: "live", stalled: "stalled", lost: "lost", refused: "refused", ended: "ended",
  failed: "lost", ok: "ok", retrying: "connecting",
};

/** A state as a coloured word with its icon. */
function showState(element, word) {
  if (element.dataset.state === word) return;
  element.dataset.state = word;
  element.replaceChildren(icon(ICONS[word] ?? "unknown"), word);
}

/** "since 14:02" or "no answer, since 14:02". */
function sinceText(stream) {
  const since = stream.since ? `since ${clockTime(new Date(stream.since * 1000), minuteFormat)}` : "";
  return [stream.cause, since].filter(Boolean).join(", ");
}

const listed = (counts) => Object.entries(counts ?? {}).map(([name, n]) => `${name} ${number.format(n)}`).join(", ");
const dropped = (stream) => sum(Object.values(stream.dropped ?? {}));

/** How many are in view now: unknown, not none, while nothing is seen. */
function nowText(stream) {
  if (stream.state !== "live" && stream.state !== "ended") return "–";
  return listed(Object.fromEntries(Object.entries(stream.now ?? {}).filter(([, n]) => n > 0))) || "0";
}

const fpsText = (stream) => (stream.fps == null ? "–" : number.format(Math.round(stream.fps)));

// ── the server's clock ──────────────────────────────────────────────────────────────────────────────────────────────

// What the server says its clock shows arrives late, never early: the most that the last of them say is nearest.
// Counted on the browser's monotonic clock, so that a viewer's wrong or jumping clock makes no picture look fresh.
const clock = {
  ahead: [],
  hear(serverTime) {
    this.ahead.push(serverTime - performance.now() / 1000);
    if (this.ahead.length > 100) this.ahead.shift();
  },
  now() {
    return this.ahead.length ? performance.now() / 1000 + Math.max(...this.ahead) : Date.now() / 1000;
  },
};

// ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────

const OLD = 2; // seconds; an older picture must not look live

/** The newest picture of a stream on a canvas, greyed with its age once it is old. */
class Picture {
  constructor(name) {
    this.canvas = el("canvas", { role: "img", "aria-label": `Picture of ${name}`, width: 16, height: 9 });
    this.note = el("span", { class: "note" });
    this.root = el("div", { class: "picture", "data-old": true }, this.canvas, this.note);
    this.time = null;
    this.waiting = null;
    this.drawing = false;
  }

  /** Decodes one picture at a time; of those that come meanwhile the newest only. */
  async show(picture) {
    this.waiting = picture;
    if (this.drawing) return;
    this.drawing = true;
    while (this.waiting) {
      const newest = this.waiting;
      this.waiting = null;
      try {
        this.draw(await createImageBitmap(newest.jpeg), newest.time);
      } catch {
        // a spoilt JPEG: the picture before it stays and grows old
      }
    }
    this.drawing = false;
  }

  draw(bitmap, time) {
    if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) {
      this.canvas.width = bitmap.width;
      this.canvas.height = bitmap.height;
    }
    this.canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    this.time = time;
    this.tick();
  }

  get age() {
    return this.time === null ? null : Math.max(clock.now() - this.time, 0);
  }

  tick() {
    const age = this.age;
    this.root.toggleAttribute("data-old", age === null || age > OLD);
    write(this.note, age === null ? "no picture yet" : age > OLD ? `picture is ${span(Math.floor(age), 0)} old` : "");
  }
}

/** The binary message of a picture: length of the name, name, capture time, JPEG. */
function readPicture(buffer) {
  const view = new DataView(buffer);
  const length = view.getUint16(0);
  const name = new TextDecoder().decode(new Uint8Array(buffer, 2, length));
  const jpeg = new Blob([new Uint8Array(buffer, 10 + length)], { type: "image/jpeg" });
  return { name, time: view.getFloat64(2 + length), jpeg };
}

// ── what a screen reader is told ────────────────────────────────────────────────────────────────────────────────────

/** Says what happened at most every five seconds, and not more than three things at a time. */
const announcer = {
  news: [],
  timer: null,
  say(text) {
    this.news.push(text);
    this.timer ??= setTimeout(() => this.speak(), 5000);
    if (this.news.length === 1 && !this.spoken) this.speak();
  },
  speak() {
    const rest = this.news.length - 3;
    const words = this.news.slice(-3).join(". ") + (rest > 0 ? `. And ${rest} more.` : ".");
    if (this.news.length) byId("announcer").textContent = words;
    clearTimeout(this.timer);
    this.spoken = this.news.length > 0;
    this.timer = this.spoken ? setTimeout(() => this.speak(), 5000) : null;
    this.news = [];
  },
};

// ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const EVENTS_AT_ONCE = 24;
const EVENTS_KEPT = 200;

/** The last events of a stream, or of all, newest first. */
class Events {
  constructor(root, stream) {
    this.stream = stream;
    this.ids = new Set();
    // the list of one stream scrolls by itself, so the keyboard must reach it
    this.list = el("ol", { class: "events", tabindex: stream ? "0" : false, "aria-label": "Events, newest first" });
    this.empty = el("p", { class: "soft" }, "Nothing has happened yet.");
    this.more = el("button", { type: "button", hidden: true }, "Show earlier");
    this.more.addEventListener("click", () => this.loadEarlier());
    root.replaceChildren(this.empty, this.list, this.more);
    this.refresh();
  }

  get items() {
    return [...this.list.children];
  }

  fetch(before) {
    const query = new URLSearchParams({ limit: EVENTS_AT_ONCE, ...before });
    if (this.stream) query.set("stream", this.stream);
    return getJson(`api/events?${query}`);
  }

  async loadEarlier() {
    const events = await this.fetch({ before: this.list.lastChild.dataset.id });
    if (!events) return;
    for (const event of events) this.put(event, "append");
    this.more.hidden = events.length < EVENTS_AT_ONCE;
  }

  /** Fetches what happened while nobody listened. Where that leaves a gap to the older ones, those go. */
  async refresh() {
    const old = this.items;
    const events = await this.fetch({});
    if (!events) return;
    const fetched = new Set(events.map((event) => event.id));
    const others = (items) => items.filter((item) => !fetched.has(item.dataset.id));
    const newer = others(this.items.filter((item) => !old.includes(item)));
    const older = others(old).length < old.length ? others(old) : [];
    const present = new Map(this.items.map((item) => [item.dataset.id, item]));
    this.list.replaceChildren(...newer, ...events.map((event) => present.get(event.id) ?? this.item(event)), ...older);
    this.ids = new Set(this.items.map((item) => item.dataset.id));
    this.empty.hidden = this.ids.size > 0;
    if (older.length === 0) this.more.hidden = events.length < EVENTS_AT_ONCE;
  }

  hear(event) {
    if (this.stream && event.stream !== this.stream) return;
    this.put(event, "prepend");
    while (this.list.children.length > EVENTS_KEPT) {
      this.ids.delete(this.list.lastChild.dataset.id);
      this.list.lastChild.remove();
      this.more.hidden = false;
    }
  }

  put(event, where) {
    if (this.ids.has(event.id)) return;
    this.ids.add(event.id);
    this.list[where](this.item(event));
    this.empty.hidden = true;
  }

  item(event) {
    const picture = event.thumbnail
      ? el("img", { src: event.thumbnail, alt: `Picture: ${event.class ?? "event"}`, loading: "lazy", width: 56, height: 56 })
      : el("span", { class: "no-thumbnail", "aria-hidden": "true" });
    const when = el("time", event.at ? { datetime: event.at } : {}, eventTime(event));
    const where = this.stream ? [] : [" · ", event.stream];
    const text = el("div", {}, el("p", {}, eventText(event)), el("p", { class: "soft" }, when, ...where));
    return el("li", { "data-id": event.id }, picture, text);
  }
}

// ── charts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const wholeSteps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000];

/** One uPlot in its box, as wide as that, in the page's colours, from zero up. */
class Chart {
  constructor(root) {
    this.root = root;
    this.plot = null;
    this.names = "";
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(root);
  }

  size() {
    return { width: this.root.clientWidth, height: 160 };
  }

  /** series: [{label, values, ...uPlot's options}], from and to in unix seconds. */
  show(times, series, { from, to, label }) {
    this.from = from;
    this.to = to;
    const names = JSON.stringify(series.map((one) => one.label));
    const data = [times, ...series.map((one) => one.values)];
    if (names === this.names) this.plot.setData(data);
    else this.rebuild(names, series, data);
    this.root.setAttribute("aria-label", label);
  }

  clear() {
    this.plot?.destroy();
    this.plot = null;
    this.names = "";
  }

  rebuild(names, series, data) {
    this.clear();
    this.names = names;
    const axis = { stroke: () => css("--soft"), grid: { stroke: () => css("--line"), width: 1 }, ticks: { show: false } };
    this.plot = new uPlot({
      ...this.size(),
      cursor: { sync: { key: "over-time" }, y: false, drag: { x: false } },
      legend: { markers: { width: 0, fill: (plot, i) => plot.series[i].stroke(plot, i) } },
      scales: {
        x: { range: () => [this.from, this.to] },
        y: { range: (plot, low, high) => [0, Math.max(2, Math.ceil((high ?? 0) * 1.1))] },
      },
      axes: [
        { ...axis, size: 28, space: 76, values: (plot, splits) => splits.map((t) => minuteFormat.format(t * 1000)) },
        { ...axis, size: 36, incrs: wholeSteps },
      ],
      series: [{ label: "Time", value: (plot, t) => (t == null ? "–" : minuteFormat.format(t * 1000)) },
        ...series.map((one, i) => ({
          stroke: () => css(`--series-${(i % 6) + 1}`), width: 1.5, points: { show: false },
          value: (plot, n) => (n == null ? "–" : number.format(n)), ...one, values: undefined,
        }))],
    }, data, this.root);
  }
}

/** Steps of running totals in equal parts of time: [[middle…], [sum…]…]. A total that falls began anew. */
function perPart(times, totals, { from, size, num }) {
  const middles = Array.from({ length: num }, (_, i) => from + (i + 0.5) * size);
  const sums = totals.map((values) => {
    const steps = middles.map(() => 0);
    let before = values[0];
    values.forEach((value, i) => {
      if (value === null) return; // nothing was seen then
      const at = Math.floor((times[i] - from) / size);
      if (at in steps) steps[at] += value < before ? value : value - before;
      before = value;
    });
    return steps;
  });
  return [middles, ...sums];
}

/** "gate in", "gate out" → ["gate"]. */
const lineNames = (history) => [...new Set(Object.keys(history.lines ?? {}).map((key) => key.replace(/ (in|out)$/, "")))];

/** The history of one stream as two charts and as a CSV file. */
class OverTime {
  constructor() {
    this.now = new Chart(byId("now-chart"));
    this.lines = new Chart(byId("lines-chart"));
    this.stream = null;
    this.history = null;
    byId("range").addEventListener("change", () => this.load());
    byId("line").addEventListener("change", () => this.draw());
    byId("csv").addEventListener("click", () => this.save());
    setInterval(() => this.stream && !document.hidden && this.load(), 15000);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.clear();
      this.draw();
    });
  }

  get minutes() {
    return Number(byId("range").value);
  }

  open(stream) {
    if (stream === this.stream) return;
    this.stream = stream;
    this.history = null;
    this.clear();
    if (stream) this.load();
  }

  clear() {
    this.now.clear();
    this.lines.clear();
  }

  async load() {
    const { stream, minutes } = this;
    const history = await getJson(`api/history?${new URLSearchParams({ stream, minutes })}`);
    if (!history || stream !== this.stream || minutes !== this.minutes) return; // another was asked for meanwhile
    this.history = history;
    this.draw();
  }

  draw() {
    if (!this.history) return;
    // whole parts of the local hour or day, so that the bars of both ends are whole too
    const size = this.minutes > 60 ? 3600 : 300;
    const zone = new Date().getTimezoneOffset() * 60;
    const to = Math.ceil((clock.now() - zone) / size) * size + zone;
    const range = { from: to - this.minutes * 60, to, size, num: (this.minutes * 60) / size };
    this.drawNow(range);
    this.drawLines(range);
  }

  drawNow(range) {
    const columns = { ...this.history.now, ...this.history.zones };
    const labels = Object.keys(columns);
    const paths = uPlot.paths.stepped({ align: 1 });
    const series = labels.map((label) => ({ label, paths, values: columns[label] }));
    const most = labels.map((label) => `${label} at most ${Math.max(0, ...columns[label])}`);
    this.now.show(this.history.time, series, { ...range, label: `In view over time: ${most.join(", ") || "nothing"}` });
  }

  drawLines(range) {
    const names = lineNames(this.history);
    byId("lines-part").hidden = names.length === 0;
    fill(byId("line"), names, () => names.map((name) => el("option", {}, name)));
    byId("line").hidden = names.length < 2;
    if (names.length === 0) return;
    const name = byId("line").value;
    write(byId("lines-title"), `Crossings of ${name}, ${range.size === 3600 ? "an hour" : "five minutes"} each`);
    const totals = ["in", "out"].map((way) => this.history.lines[`${name} ${way}`] ?? []);
    const [middles, ...sums] = perPart(this.history.time, totals, range);
    const series = ["in", "out"].map((way, i) => ({
      label: way, values: sums[i], width: 0, fill: () => css(`--series-${i + 1}`),
      paths: uPlot.paths.bars({ size: [0.35, 24], align: i ? 1 : -1, gap: 1 }),
    }));
    const label = `Crossings of ${name} over time: in ${sum(sums[0])}, out ${sum(sums[1])}`;
    this.lines.show(middles, series, { ...range, label });
  }

  /** Hands the range on show to the browser as NAME_counts.csv. */
  save() {
    if (!this.history) return;
    const { time, now, lines, zones } = this.history;
    const columns = { ...now, ...lines, ...zones };
    const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
    const rows = time.map((t, i) => [new Date(t * 1000).toISOString(), ...Object.values(columns).map((column) => column[i])]);
    const text = [["time", ...Object.keys(columns).map(quoted)], ...rows].map((row) => row.join(",")).join("\r\n");
    const url = URL.createObjectURL(new Blob([text, "\r\n"], { type: "text/csv" }));
    el("a", { href: url, download: `${this.stream}_counts.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }
}

// ── one stream in the grid ──────────────────────────────────────────────────────────────────────────────────────────

/** Lines and zones as short rows: gate in 6 out 2. */
function tallies(counts) {
  const row = (name, parts) => el("li", {}, el("b", {}, name), ...parts.map(([word, n]) =>
    el("span", {}, `${word} `, el("i", {}, number.format(n)))));
  const rowsOf = (totals, keys) => Object.entries(totals ?? {}).map(([name, perClass]) =>
    row(name, keys.map((key) => [key, collapse(perClass, key)])));
  return [...rowsOf(counts.lines, ["in", "out"]), ...rowsOf(counts.zones, ["now", "entered", "left"])];
}

function fact(name) {
  const value = el("dd", {}, "–");
  return { root: el("div", {}, el("dt", {}, name), value), value };
}

function showDrops(details, stream) {
  const n = dropped(stream);
  write(details.firstChild, `${number.format(n)} ${n === 1 ? "picture" : "pictures"} dropped`);
  fill(details.lastChild, stream.dropped ?? {}, (causes) => {
    const items = Object.entries(causes).map(([cause, times]) => el("li", {}, `${cause}: ${number.format(times)}`));
    return items.length ? items : [el("li", {}, "Every picture was shown.")];
  });
}

class Tile {
  constructor(name) {
    this.picture = new Picture(name);
    this.link = el("a", { href: `#/${encodeURIComponent(name)}` }, name);
    this.state = el("span", { class: "state" });
    this.since = el("p", { class: "soft since" });
    this.facts = { now: fact("In view"), age: fact("Age"), fps: fact("fps") };
    this.tallies = el("ul", { class: "tallies" });
    this.drops = el("details", { class: "drops" }, el("summary"), el("ul"));
    this.root = el("li", { class: "tile" }, this.picture.root,
      el("div", { class: "name" }, el("h3", {}, this.link), this.state), this.since,
      el("dl", { class: "facts" }, ...Object.values(this.facts).map((one) => one.root)), this.tallies, this.drops);
    this.root.tile = this;
    this.inView = false;
  }

  update(stream) {
    showState(this.state, stream.state);
    write(this.since, sinceText(stream));
    this.since.title = this.since.textContent;
    write(this.facts.now.value, nowText(stream));
    write(this.facts.fps.value, fpsText(stream));
    fill(this.tallies, stream.counts ?? {}, tallies);
    showDrops(this.drops, stream);
  }

  tick(stream) {
    this.picture.tick();
    write(this.facts.age.value, ageText(this.picture, stream));
  }
}

/** The shown picture's age; of a picture that is not being watched, the newest one's as the server knows it. */
function ageText(picture, stream) {
  const age = picture.age ?? stream?.age;
  return age == null ? "–" : span(age);
}

// ── one stream, large ───────────────────────────────────────────────────────────────────────────────────────────────

class Large {
  constructor() {
    this.name = null;
    this.picture = null;
    this.events = null;
    this.publishers = [];
    this.overTime = new OverTime();
    setInterval(() => this.name && !document.hidden && this.loadPublishers(), 5000);
    this.facts = {
      now: fact("In view"), objects: fact("Seen in all"), age: fact("Picture age"), fps: fact("Frames a second"),
      size: fact("Size"),
    };
    byId("stream-facts").append(...Object.values(this.facts).map((one) => one.root));
  }

  open(name) {
    if (name === this.name) return;
    this.name = name;
    this.overTime.open(name);
    if (!name) return;
    this.loadPublishers();
    this.picture = new Picture(name);
    byId("stream-picture").replaceChildren(this.picture.root);
    this.events = new Events(byId("events"), name);
    write(byId("stream-name"), name);
  }

  update(stream) {
    showState(byId("stream-state"), stream.state);
    write(byId("stream-since"), sinceText(stream));
    if (stream.width && stream.height) this.picture.root.style.aspectRatio = `${stream.width} / ${stream.height}`;
    this.updateFacts(stream);
    showDrops(byId("stream-drops"), stream);
    write(byId("stream-shown"), `${number.format(stream.shown ?? 0)} of ${number.format(stream.read ?? 0)} pictures shown`);
    fill(byId("counts"), stream.counts ?? {}, countTables);
    fill(byId("outputs"), [...(stream.sinks ?? []), ...this.publishers], outputRows);
  }

  /** What publishes for all streams together is no stream's own: the health of the whole names it. */
  async loadPublishers() {
    this.publishers = (await getJson("healthz"))?.publishers ?? [];
  }

  updateFacts(stream) {
    write(this.facts.now.value, nowText(stream));
    write(this.facts.objects.value, listed(stream.counts?.objects) || "–");
    write(this.facts.fps.value, fpsText(stream));
    write(this.facts.size.value, stream.width ? `${stream.width} × ${stream.height}` : "–");
  }

  tick(stream) {
    this.picture.tick();
    write(this.facts.age.value, ageText(this.picture, stream));
  }
}

/** Lines and zones by class, a table each. */
function countTables(counts) {
  const rows = (totals, keys) => Object.entries(totals ?? {}).flatMap(([name, perClass]) => {
    const classes = Object.entries(perClass);
    if (classes.length === 0) return [[name, "–", ...keys.map(() => "0")]];
    return classes.map(([kind, n]) => [name, kind, ...keys.map((key) => number.format(n[key] ?? 0))]);
  });
  const lines = rows(counts.lines, ["in", "out"]);
  const zones = rows(counts.zones, ["now", "entered", "left"]);
  const tables = [];
  if (lines.length) tables.push(table("Lines", ["Line", "What", "In", "Out"], lines));
  if (zones.length) tables.push(table("Zones", ["Zone", "What", "Now", "Entered", "Left"], zones));
  return tables.length ? tables : [el("p", { class: "soft" }, "No line and no zone: --line and --zone draw them.")];
}

function outputRows(sinks) {
  if (sinks.length === 0) return [el("p", { class: "soft" }, "None: nothing is recorded or passed on.")];
  const rows = sinks.map((sink) => {
    const state = el("span", { class: "state" });
    showState(state, sink.state);
    const waiting = sink.waiting ? `${number.format(sink.waiting)} waiting` : "";
    const cause = el("p", { class: "soft" }, [sink.cause, waiting].filter(Boolean).join(", "));
    return [sink.name, el("div", {}, state, cause), number.format(sink.dropped ?? 0)];
  });
  return [table("Where pictures and numbers go", ["Output", "State", "Dropped"], rows)];
}

// ── the connection ──────────────────────────────────────────────────────────────────────────────────────────────────

const SILENT = 5; // seconds; the server speaks once a second

/** The JSON at an address, or null when there is none now; without a valid token on to the login. */
async function getJson(path) {
  try {
    const response = await fetch(path, { signal: AbortSignal.timeout(SILENT * 1000) });
    if (response.status === 401) location.assign("login");
    return response.ok || response.status === 503 ? await response.json() : null; // 503: unhealthy, and how
  } catch {
    return null;
  }
}

/** One WebSocket for everything, tried again for ever after 1, 2, 4, 8, 10 seconds ± 20 %. */
class Connection {
  constructor({ onOpen, onStreams, onState, onEvent, onPicture, onChange }) {
    Object.assign(this, { onOpen, onStreams, onState, onEvent, onPicture, onChange });
    this.socket = null;
    this.attempts = 0;
    this.retry = null;
    this.wanted = { watch: [], width: 640 };
    setInterval(() => this.socket && performance.now() - this.heardAt > SILENT * 1000 && this.lost(), 1000);
    window.addEventListener("online", () => this.socket || this.open());
    this.open();
  }

  async open() {
    clearTimeout(this.retry);
    const streams = await getJson("api/streams");
    if (this.socket) return;
    if (!streams) return this.again();
    this.onStreams(streams);
    this.listen(new WebSocket(new URL("ws", document.baseURI.replace(/^http/, "ws"))));
  }

  listen(socket) {
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heardAt = performance.now();
    socket.onopen = () => {
      this.ask(this.wanted);
      this.onOpen();
    };
    socket.onmessage = ({ data }) => socket === this.socket && this.hear(data);
    socket.onclose = () => socket === this.socket && this.lost();
  }

  hear(data) {
    this.heardAt = performance.now();
    this.attempts = 0;
    this.onChange("open");
    if (typeof data !== "string") return this.onPicture(readPicture(data));
    const message = JSON.parse(data);
    if (message.time) clock.hear(message.time);
    if (message.streams) this.onStreams(message.streams);
    if (message.state) this.onState(message.state);
    if (message.event) this.onEvent(message.event);
  }

  ask(wanted) {
    this.wanted = wanted;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(wanted));
  }

  lost() {
    this.socket.close();
    this.socket = null;
    this.again();
  }

  again() {
    this.onChange("lost");
    clearTimeout(this.retry);
    const delay = Math.min(2 ** this.attempts++, 10) * (0.8 + 0.4 * Math.random());
    this.retry = setTimeout(() => this.open(), delay * 1000);
  }
}

// ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────

class LivePage {
  constructor() {
    this.streams = new Map();
    this.tiles = new Map();
    this.large = new Large();
    this.events = null;
    this.visible = new IntersectionObserver((entries) => this.seen(entries), { rootMargin: "50px" });
    this.resized = new ResizeObserver(() => this.watchSoon());
    this.resized.observe(byId("main"));
    this.connection = new Connection({
      onOpen: () => this.catchUp(),
      onStreams: (streams) => this.update(streams),
      onState: (state) => this.changed(state),
      onEvent: (event) => this.hear(event),
      onPicture: (picture) => this.show(picture),
      onChange: (state) => this.connected(state),
    });
    this.listen();
    setInterval(() => this.tick(), 250);
  }

  listen() {
    window.addEventListener("hashchange", () => this.route(true));
    document.addEventListener("visibilitychange", () => this.watchSoon());
    document.addEventListener("keydown", (event) => this.key(event));
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault();
      byId("main").focus();
    });
    byId("logout").hidden = !localStorage.getItem("signed-in");
    byId("logout").addEventListener("submit", () => localStorage.removeItem("signed-in"));
  }

  // what comes from the server

  update(streams) {
    for (const stream of streams) this.announce(stream);
    this.streams = new Map(streams.map((stream) => [stream.name, stream]));
    this.syncTiles();
    for (const [name, tile] of this.tiles) tile.update(this.streams.get(name));
    byId("none").hidden = streams.length > 0;
    const live = streams.filter((stream) => stream.state === "live").length;
    write(byId("summary"), streams.length === 1 ? "" : `${live} of ${streams.length} streams live`);
    this.route(false);
    if (this.open) this.large.update(this.streams.get(this.open));
    this.tick();
  }

  /** A stream's state alone, told at once; the numbers follow within a second. */
  changed(state) {
    if (!this.streams.has(state.name)) return;
    this.update([...this.streams.values()].map((stream) => (stream.name === state.name ? { ...stream, ...state } : stream)));
  }

  announce(stream) {
    const before = this.streams.get(stream.name);
    if (before && before.state !== stream.state) {
      announcer.say(`${stream.name} is ${stream.state}${stream.cause ? `: ${stream.cause}` : ""}`);
    }
  }

  syncTiles() {
    for (const [name, tile] of this.tiles) {
      if (this.streams.has(name)) continue;
      this.visible.unobserve(tile.root);
      tile.root.remove();
      this.tiles.delete(name);
    }
    for (const name of this.streams.keys()) {
      if (this.tiles.has(name)) continue;
      const tile = new Tile(name);
      this.tiles.set(name, tile);
      byId("grid").append(tile.root);
      this.visible.observe(tile.root);
    }
  }

  catchUp() {
    this.events?.refresh();
    this.large.events?.refresh();
  }

  hear(event) {
    this.events?.hear(event);
    if (!this.open) return;
    this.large.events.hear(event);
    if (event.stream === this.open && event.event !== "source") announcer.say(eventText(event));
  }

  show({ name, time, jpeg }) {
    clock.hear(time);
    const picture = this.open === name ? this.large.picture : this.tiles.get(name)?.picture;
    picture?.show({ time, jpeg });
  }

  connected(state) {
    document.body.dataset.connection = state;
    write(byId("connection"), state === "lost" ? "Connection lost. Trying again…" : "");
    if (state === "lost") write(byId("summary"), "");
  }

  tick() {
    if (this.open) this.large.tick(this.streams.get(this.open));
    else for (const [name, tile] of this.tiles) tile.tick(this.streams.get(name));
  }

  // which stream is open: the address says it, so that back, forward and bookmarks work

  get only() {
    return this.streams.size === 1 ? [...this.streams.keys()][0] : null;
  }

  route(moved) {
    const named = [...this.streams.keys()].find((name) => location.hash === `#/${encodeURIComponent(name)}`);
    const name = named ?? this.only;
    if (name === this.open && this.routed) return;
    const before = this.open;
    this.open = name;
    this.routed = this.streams.size > 0;
    this.large.open(name);
    byId("stream").hidden = !name;
    byId("overview").hidden = Boolean(name);
    byId("back").hidden = Boolean(this.only);
    document.title = name ? `${name} · streamseg live` : "streamseg live";
    if (name) this.large.update(this.streams.get(name));
    else if (this.routed) this.events ??= new Events(byId("all-events"), null);
    if (moved) this.moveFocus(name, before);
    this.watchSoon();
  }

  moveFocus(name, before) {
    if (name) scrollTo(0, 0);
    const target = name ? byId("stream-name") : this.tiles.get(before)?.link;
    target?.focus({ preventScroll: Boolean(name) });
  }

  // the keyboard

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, select")) return;
    if (event.key === "Escape" && this.open && !this.only) location.hash = "";
    else if (!this.open && event.key.startsWith("Arrow")) this.moveInGrid(event);
  }

  moveInGrid(event) {
    const tiles = [...this.tiles.values()];
    const at = tiles.findIndex((tile) => tile.link === document.activeElement);
    if (at < 0) return;
    const top = tiles[0].root.offsetTop;
    const columns = tiles.filter((tile) => tile.root.offsetTop === top).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (!tiles[at + step]) return;
    event.preventDefault();
    tiles[at + step].link.focus();
  }

  // what is watched: the streams in view, as wide as they are shown

  seen(entries) {
    for (const entry of entries) entry.target.tile.inView = entry.isIntersecting;
    this.watchSoon();
  }

  watchSoon() {
    clearTimeout(this.watching);
    this.watching = setTimeout(() => this.watch(), 50);
  }

  watch() {
    const pictures = this.open
      ? new Map([[this.open, this.large.picture]])
      : new Map([...this.tiles].filter(([, tile]) => tile.inView).map(([name, tile]) => [name, tile.picture]));
    const widths = [...pictures.values()].map((picture) => picture.root.clientWidth * devicePixelRatio);
    // in steps, so that viewers share what is encoded
    const width = Math.min(Math.ceil(Math.max(160, ...widths) / 160) * 160, 1920);
    this.connection.ask({ watch: document.hidden ? [] : [...pictures.keys()], width });
  }
}

// ── the login, and the API's own page ───────────────────────────────────────────────────────────────────────────────

function loginPage() {
  const refusals = { wrong: "That token is not right.", slow: "Too many tries. Wait a minute, then try again." };
  write(byId("refused"), refusals[new URLSearchParams(location.search).get("refused")] ?? "");
  byId("login").addEventListener("submit", () => localStorage.setItem("signed-in", "yes"));
}

function operation(path, method, { summary, description, parameters = [], responses = {} }) {
  const plain = method === "get" && !path.includes("{") && !parameters.some((one) => one.required);
  const title = `${method.toUpperCase()} ${path}`;
  const types = (schema) => (schema.anyOf ?? [schema]).map((one) => one.type).filter((type) => type !== "null").join(" or ");
  const rows = parameters.map(({ name, schema, description: meaning }) =>
    [name, types(schema), String(schema.default ?? ""), meaning ?? ""]);
  return el("section", { class: "card" },
    el("h2", {}, plain ? el("a", { href: path.replace(/^\//, "") || "./" }, title) : title),
    el("p", {}, description ?? summary ?? ""),
    rows.length ? table("Parameters", ["Name", "Type", "Default", "Meaning"], rows) : "",
    el("ul", { class: "soft" }, ...Object.entries(responses).map(([code, { description: text }]) => el("li", {}, `${code}: ${text}`))));
}

async function docsPage() {
  const { paths } = (await getJson("openapi.json")) ?? { paths: {} };
  byId("main").append(...Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, details]) => operation(path, method, details))));
}

({ live: () => new LivePage(), login: loginPage, docs: docsPage })[document.body.dataset.page]();
