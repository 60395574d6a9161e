// Charts: what uPlot is told of a curve, in the page's colours; each with its key, a line that says what lies under the
// pointer, a sentence for those who do not see it, and its figures as a table.
const HOUR = 3600, DAY = 86400;
const drawn = new Set();

function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "class") made.className = value;
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  // Strings become text nodes: nothing that came from outside is ever read as markup.
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function digits(value, many) {
  if (value === null || value === undefined || !isFinite(value)) return "-";
  if (value === 0) return "0";
  const places = Math.min(Math.max((many || 3) - 1 - Math.floor(Math.log10(Math.abs(value))), 0), 12);
  return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
}

const PREFIXES = [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3], ["", 1], ["m", 1e-3], ["µ", 1e-6]];

// The factor and the name by which the largest value is at least 1.
function fitting(largest, unit) {
  for (const [prefix, factor] of PREFIXES) {
    if (largest >= factor) {
      const name = unit === "g" && prefix === "M" ? "t" : unit === "g" && prefix === "G" ? "kt" : prefix + unit;
      return { factor, name };
    }
  }
  return { factor: 1, name: unit };
}

function two(n) {
  return String(n).padStart(2, "0");
}

function clock(at, isLong) {
  const t = new Date(at * 1000);
  const day = `${t.getUTCFullYear()}-${two(t.getUTCMonth() + 1)}-${two(t.getUTCDate())}`;
  const time = `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}`;
  return isLong ? `${day} ${time}` : `${day} ${time}:${two(t.getUTCSeconds())}`;
}

function timeTicks(u, splits) {
  let day = null;
  const step = splits.length > 1 ? splits[1] - splits[0] : 1;
  return splits.map((at) => {
    const t = new Date(at * 1000);
    const today = `${two(t.getUTCMonth() + 1)}-${two(t.getUTCDate())}`;
    const isNew = today !== day;
    day = today;
    if (step >= DAY) return today;
    let time = `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}`;
    if (step < 60) time += `:${two(t.getUTCSeconds())}`;
    if (step < 1) time += `.${Math.floor((at % 1) * 10)}`;
    return isNew ? `${time}\n${today}` : time;
  });
}

// The value of a step series at instants: t has one more entry than values; outside it is not known.
function stepsAt(t, values, instants) {
  let i = -1;
  return instants.map((at) => {
    while (i + 1 < t.length && t[i + 1] <= at) i += 1;
    if (i < 0 || at > t[t.length - 1]) return null;
    return values[Math.min(i, values.length - 1)];
  });
}

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [4, 4], [12, 4], [1, 2], [8, 3, 3, 3]];

// The line of a key: colour and dashes, so that no line is told by its colour alone.
function swatch(item) {
  const NS = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(NS, "svg");
  for (const [k, v] of [["width", 26], ["height", 12], ["aria-hidden", "true"], ["focusable", "false"]]) svg.setAttribute(k, v);
  const line = document.createElementNS(NS, item.isBand || item.isBar ? "rect" : "line");
  const shape = item.isBand || item.isBar
    ? [["x", 1], ["y", 1], ["width", 24], ["height", 10], ["fill", `var(${item.colour})`], ["fill-opacity", item.isBand ? 0.25 : 1]]
    : [["x1", 0], ["y1", 6], ["x2", 26], ["y2", 6], ["stroke", `var(${item.colour})`], ["stroke-width", 2.5],
       ["stroke-dasharray", (item.dash || []).join(" ")]];
  for (const [k, v] of shape) line.setAttribute(k, v);
  svg.append(line);
  return svg;
}

function axes(spec, fit) {
  const ink = colour("--soft"), grid = colour("--grid");
  const font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif";
  const common = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
  const x = spec.isTime
    ? { ...common, values: timeTicks, space: (u, n, low, high) => (high - low < 20 ? 96 : high - low < 600 ? 74 : 64), size: 42 }
    : { ...common, values: (u, splits) => splits.map((n) => (Number.isInteger(n) ? String(n) : "")), space: 50, size: 28 };
  const label = (u, splits) => splits.map((n) => (n === null ? "" : String(+(n / fit.factor).toPrecision(6))));
  const size = (u, texts) => Math.max(34, ...(texts || []).map((text) => 12 + 7.2 * text.length));
  return [x, { ...common, values: label, size, space: 36 }];
}

function heightOf(spec) {
  return document.documentElement.classList.contains("print") ? 170 : spec.height || 240;
}

// spec: x, isTime, unit, lines [{name, y, colour, dash, isStep, isBar, isHidden, width}], bands [[high, low, colour]],
// marks (instants of thin lines), xName.
function plotOf(spec, host, readout) {
  const known = spec.lines.flatMap((line) => line.y.filter((y) => y !== null && y !== undefined));
  const fit = spec.isPlain ? { factor: 1, name: spec.unit } : fitting(known.reduce((a, b) => Math.max(a, b), 0), spec.unit);
  spec.fit = fit;
  const series = spec.lines.map((line) => ({
    label: line.name,
    stroke: line.isHidden ? "transparent" : colour(line.colour),
    width: line.isHidden ? 0 : line.width || 1.75,
    dash: line.dash,
    fill: line.isBar ? colour(line.colour) : undefined,
    paths: line.isBar ? uPlot.paths.bars({ size: [0.85, 80], align: 0 }) : line.isStep ? uPlot.paths.stepped({ align: 1 }) : undefined,
    points: { show: spec.x.length < 2 && !line.isHidden && !line.isBar },
  }));
  const marks = spec.marks || [];
  const options = {
    width: Math.max(host.clientWidth, 120),
    height: heightOf(spec),
    tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), "Etc/UTC"),
    scales: {
      x: { time: Boolean(spec.isTime), range: spec.isTime ? undefined : (u, a, b) => [a - 0.6, b + 0.6] },
      y: { range: (u, low, high) => [0, high > 0 ? high * 1.06 : 1] },
    },
    axes: axes(spec, fit),
    series: [{}, ...series],
    bands: (spec.bands || []).map(([high, low, name]) => ({ series: [high + 1, low + 1], fill: colour(name) + "38" })),
    legend: { show: false },
    cursor: { points: { size: 6 }, y: false },
    padding: [10, 22, 0, 0],
    hooks: {
      setCursor: [(u) => { readout.textContent = u.cursor.idx === null || u.cursor.idx === undefined ? "" : told(spec, u.cursor.idx); }],
      drawClear: [(u) => {
        u.ctx.save();
        u.ctx.strokeStyle = colour("--grid");
        u.ctx.lineWidth = window.devicePixelRatio;
        for (const at of marks) {
          const left = Math.round(u.valToPos(at, "x", true));
          u.ctx.beginPath();
          u.ctx.moveTo(left, u.bbox.top);
          u.ctx.lineTo(left, u.bbox.top + u.bbox.height);
          u.ctx.stroke();
        }
        u.ctx.restore();
      }],
    },
  };
  return new uPlot(options, [spec.x, ...spec.lines.map((line) => line.y)], host);
}

function told(spec, i) {
  const at = spec.isTime ? clock(spec.x[i]) : `${spec.xName || "epoch"} ${spec.x[i]}`;
  const parts = spec.lines
    .filter((line) => !line.isHidden && line.y[i] !== null && line.y[i] !== undefined)
    .map((line) => `${line.short || line.name}: ${digits(line.y[i] / spec.fit.factor, 4)} ${spec.fit.name}`);
  return `${at}  ${parts.join(", ")}`;
}

function sentence(spec) {
  const span = spec.isTime ? `from ${clock(spec.x[0])} to ${clock(spec.x[spec.x.length - 1])} UTC`
    : `${spec.x.length} bars, ${spec.xName || "epoch"} ${spec.x[0]} to ${spec.x[spec.x.length - 1]}`;
  const lines = spec.lines.filter((line) => !line.isHidden).map((line) => {
    const known = line.y.filter((y) => y !== null && y !== undefined);
    if (!known.length) return `${line.name}: nothing is known`;
    const show = (y) => `${digits(y / spec.fit.factor)} ${spec.fit.name}`;
    const ends = known.reduce(([a, b], y) => [Math.min(a, y), Math.max(b, y)], [Infinity, -Infinity]);
    return `${line.name}: ${show(ends[0])} to ${show(ends[1])}, at the end ${show(known[known.length - 1])}`;
  });
  return `${spec.title}, ${span}. ${lines.join(". ")}. The figures follow as a table.`;
}

// At most 48 rows, evenly chosen: what a person reads of a curve.
function tableOf(spec) {
  const lines = spec.lines.filter((line) => !line.isBand);
  const step = Math.max(1, Math.ceil(spec.x.length / 48));
  const rows = [];
  for (let i = 0; i < spec.x.length; i += step) {
    const cells = lines.map((line) => el("td", { class: "num" }, digits(line.y[i] === null || line.y[i] === undefined ? null : line.y[i] / spec.fit.factor, 4)));
    rows.push(el("tr", null, el("th", { scope: "row" }, spec.isTime ? clock(spec.x[i]) : String(spec.x[i])), ...cells));
  }
  const which = step > 1 ? `; every ${step}th of ${spec.x.length} instants` : "";
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${spec.title} as a table` },
    el("table", null,
      el("caption", null, `${spec.title}, ${spec.fit.name}${which}; "-" where nothing is known`),
      el("thead", null, el("tr", null, el("th", { scope: "col" }, spec.isTime ? "UTC" : spec.xName || "epoch"),
        ...lines.map((line) => el("th", { scope: "col", class: "num" }, line.name)))),
      el("tbody", null, ...rows)));
}

function figure(title, note, isWide, ...content) {
  return el("figure", { class: isWide ? "wide" : null }, el("figcaption", null, el("h3", null, title)), ...content,
    note ? el("p", { class: "note" }, note) : null);
}

// A figure with a chart in it; it is drawn once it stands in the page.
function chart(title, spec, note, isWide) {
  spec.title = title;
  const host = el("div", { class: "chart", role: "img" });
  const readout = el("p", { class: "readout", "aria-hidden": "true" });
  const keys = el("ul", { class: "keys" });
  const table = el("details", null, el("summary", null, "Figures as a table"));
  table.addEventListener("toggle", () => { if (table.open && table.children.length < 2) table.append(tableOf(spec)); });
  const made = figure(title, note, isWide, host, readout, keys, table);
  const unit = el("span", { class: "unit" });
  made.querySelector("h3").append(unit);
  const entry = { host, plot: null };
  entry.draw = () => {
    if (entry.plot) entry.plot.destroy();
    entry.plot = plotOf(spec, host, readout);
    host.setAttribute("aria-label", sentence(spec));
    unit.textContent = `, ${spec.fit.name}`;
    const shown = [...spec.lines.filter((line) => !line.isHidden), ...(spec.keys || [])];
    keys.replaceChildren(...shown.map((item) => el("li", null, swatch(item), el("span", null, item.name))));
  };
  entry.resize = () => {
    const width = Math.max(host.clientWidth, 120);
    if (entry.plot && entry.plot.width !== width) entry.plot.setSize({ width, height: heightOf(spec) });
  };
  drawn.add(entry);
  made.start = () => { entry.draw(); sizes.observe(host); };
  return made;
}

const sizes = new ResizeObserver(() => { for (const entry of drawn) if (entry.host.isConnected) entry.resize(); });

// Forget the charts of what left the page.
function sweep() {
  for (const entry of drawn) {
    if (!entry.host.isConnected && entry.plot) {
      sizes.unobserve(entry.host);
      entry.plot.destroy();
      drawn.delete(entry);
    }
  }
}

function redraw() {
  for (const entry of drawn) if (entry.plot && entry.host.isConnected) entry.draw();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// Rows with bars from zero: [{name, sub, value, low, high, text, isHere}]; the bars only repeat the numbers.
function barTable(caption, heads, rows) {
  const most = rows.reduce((a, row) => Math.max(a, row.high === undefined ? row.value : row.high), 0) || 1;
  const share = (value) => `${Math.max(0, Math.min(100, (100 * value) / most))}%`;
  const body = rows.map((row) => {
    const bar = document.createElement("i");
    bar.style.width = share(row.value);
    const track = el("div", { class: "track" }, bar);
    if (row.high !== undefined) {
      const range = document.createElement("b");
      range.style.left = share(row.low);
      range.style.width = share(row.high - row.low);
      track.append(range);
    }
    const whole = el("tr", { class: row.isHere ? "here" : null },
      el("th", { scope: "row" }, row.name),
      ...row.cells.map((cell) => el("td", { class: "num" }, cell)),
      el("td", { class: "bar", "aria-hidden": "true" }, track));
    return row.sub ? [whole, el("tr", { class: "under" }, el("td", { class: "sub", colspan: heads.length + 1 }, row.sub))] : [whole];
  });
  const columns = el("colgroup", null, el("col", { class: "names" }), ...heads.slice(1).map((head) => el("col", { class: head === "Share" ? "percent" : "numbers" })), el("col"));
  return el("table", { class: "bars" }, el("caption", null, caption), columns,
    el("thead", null, el("tr", null, ...heads.map((head, n) => el("th", { scope: "col", class: n ? "num" : null }, head)),
      el("td", { "aria-hidden": "true" }))),
    el("tbody", null, ...body.flat()));
}
