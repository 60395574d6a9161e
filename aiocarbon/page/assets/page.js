// The page: a list of runs where there are several, and a section a run, drawn when it is opened.
const main = document.getElementById("main");
let page = JSON.parse(document.getElementById("data").textContent);

function mass(grams) {
  const fit = fitting(grams, "g");
  return `${digits(grams / fit.factor)} ${fit.name}`;
}

function kpis(rows) {
  return el("dl", { class: "kpis" }, ...rows.map(([label, value, range, basis]) => el("div", { class: "kpi" },
    el("dt", null, label), el("dd", { class: "value" }, value), el("dd", null, range), el("dd", null, basis))));
}

function list(title, texts, open) {
  if (!texts.length) return null;
  const items = el("ul", null, ...texts.map((text) => el("li", null, text)));
  if (texts.length < 3) return el("div", { class: "warnings", role: "note", "aria-label": title }, el("strong", null, title), items);
  return el("details", { class: "warnings", open }, el("summary", null, `${texts.length} ${title.toLowerCase()}`), items);
}

function plainTable(caption, heads, rows, numeric) {
  const align = (n) => (numeric.includes(n) ? "num" : null);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, el("table", null,
    el("caption", null, caption),
    el("thead", null, el("tr", null, ...heads.map((head, n) => el("th", { scope: "col", class: align(n) }, head)))),
    el("tbody", null, ...rows.map((row) => el("tr", null, ...row.map((cell, n) =>
      (n ? el("td", { class: align(n) }, cell) : el("th", { scope: "row" }, cell))))))));
}

function held(values) {
  return [...values, values.length ? values[values.length - 1] : null];
}

function power(found, marks) {
  const lines = found.lines.map((line, n) => ({
    name: line.name, y: held(line.w), colour: `--c${n % 8}`, dash: line.basis.startsWith("EST") ? [3, 3] : DASHES[n > 3 ? n - 3 : 0], isStep: true,
    width: found.lines.length > 4 ? 1.25 : 1.75,
  }));
  return chart("Power over time, by device", { x: found.t, isTime: true, unit: "W", lines, marks, height: 260 }, found.note, true);
}

function intensity(found) {
  const lines = [], keys = [], bands = [];
  const first = found.zones[0].t[0], last = Math.max(...found.zones.map((zone) => zone.t[zone.t.length - 1]));
  const inside = (at) => at >= first && at <= last;
  const ahead = found.ahead && found.ahead.t.some(inside) ? found.ahead : null;
  const x = [...new Set([...found.zones.flatMap((zone) => zone.t), ...(ahead ? ahead.t.filter(inside) : [])])].sort((a, b) => a - b);
  found.zones.forEach((zone, z) => {
    const of = found.zones.length > 1 ? `${zone.zone}: ` : "";
    const at = (values) => stepsAt(zone.t, values, x);
    const g = at(zone.g), quality = at(zone.quality);
    const low = lines.length;
    lines.push({ name: `${of}low`, y: at(zone.low), colour: `--c${z}`, isHidden: true, isStep: true });
    lines.push({ name: `${of}high`, y: at(zone.high), colour: `--c${z}`, isHidden: true, isStep: true });
    bands.push([low + 1, low, `--c${z}`]);
    for (const rank of [...new Set(zone.quality)].sort()) {
      // The end of a stretch belongs to it: else a line would end one step too early.
      const y = g.map((value, i) => (quality[i] === rank || (i && quality[i - 1] === rank) ? (quality[i] === rank ? value : g[i - 1]) : null));
      lines.push({ name: of + found.qualities[rank], y, colour: `--c${z}`, dash: DASHES[rank < 3 ? 0 : rank === 3 ? 1 : 2], isStep: true, width: 2 });
    }
    // Where nothing else was known it would lie on what was used.
    if (zone.g.some((value) => Math.abs(value - zone.average.g) > 0.01)) lines.push({ name: of + zone.average.name, short: `${of}yearly average`, y: x.map(() => zone.average.g), colour: "--c7", dash: [2, 3], width: 1.5 });
  });
  if (ahead) lines.push({ name: ahead.name, short: "forecast", y: stepsAt(ahead.t, ahead.g, x), colour: "--c1", dash: [7, 4], isStep: true });
  keys.push({ name: "90 % range", colour: "--c0", isBand: true });
  return chart("Carbon intensity over time", { x, isTime: true, unit: "gCO2eq/kWh", isPlain: true, lines, bands, keys, height: 260 }, found.note, true);
}

function used(title, found, key, unit, factor, note) {
  const scaled = (values) => values.map((value) => (value === null || value === undefined ? value : value * factor));
  const own = [found.t, ...["value", "low", "high"].map((end) => scaled(found[key][end]))];
  const made = found.predictions;
  const tables = [own];
  if (made) tables.push([made.t, ...["value", "low", "high"].map((end) => scaled(made[`${key}_${end}`]))]);
  const joined = tables.length > 1 ? uPlot.join(tables) : own;
  const names = ["used so far", "low end", "high end", "predicted for the whole run", "predicted low", "predicted high"];
  const lines = joined.slice(1).map((y, n) => ({ name: names[n], y, colour: n < 3 ? "--c0" : "--c1", isHidden: n % 3 > 0, dash: n === 3 ? [7, 4] : [], width: 2 }));
  const bands = [[2, 1, "--c0"]], keys = [{ name: "90 % range of what was used", colour: "--c0", isBand: true }];
  if (made) {
    bands.push([5, 4, "--c1"]);
    keys.push({ name: "90 % range of the prediction", colour: "--c1", isBand: true });
  }
  return chart(title, { x: joined[0], isTime: true, unit, lines, bands, keys }, note);
}

function epochs(found) {
  const of = (flag) => found.energy.map((kwh, i) => (found.vouched[i] === flag ? kwh * 1000 : null));
  const lines = [{ name: "energy of an epoch", y: of(1), colour: "--c0", isBar: true }];
  if (found.vouched.includes(0)) lines.push({ name: "readings vouch for less than 99 % of it", y: of(0), colour: "--c1", isBar: true });
  for (const [end, name] of [["low", "low end (90 %)"], ["high", "high end (90 %)"]]) {
    lines.push({ name, y: found[end].map((kwh) => kwh * 1000), colour: "--c0", isHidden: true });
  }
  return chart("Energy per epoch", { x: found.index, unit: "Wh", lines, xName: "epoch" }, found.note);
}

function shares(found) {
  const rows = found.rows.map((row) => ({ name: row.name, sub: row.basis, value: row.share, cells: [row.text, row.percent] }));
  return figure("Share by component", found.note, false, barTable("Energy of the devices", ["Component", "Energy", "Share"], rows));
}

function spans(found) {
  const rows = found.rows.map((row) => ({ name: row[0], value: row[3], cells: [row[1], row[2]], sub: row[5] ? `${row[4]} of them; median ${row[5]}, 95 % below ${row[6]}` : "" }));
  const made = [];
  if (found.lines) {
    const lines = found.lines.map((line, n) => ({ name: line.name, y: held(line.w), colour: `--c${n % 8}`, dash: DASHES[n > 3 ? n - 3 : 0], isStep: true }));
    made.push(chart("Spans over time: mean power by name", { x: found.t, isTime: true, unit: "W", lines }, found.note, true));
  }
  made.push(figure("Energy by span", found.note, false, barTable("Own energy, without that of spans inside", ["Span", "Energy", "Share"], rows)));
  return made;
}

function methods(found) {
  const rows = found.rows.map((row) => ({ name: row.name, sub: `${row.ends}. ${row.source}; ${row.note}`, value: row.g, low: row.low, high: row.high, cells: [row.text] }));
  return figure("The same run under other intensities", found.note, false, barTable("CO2eq with its 90 % range", ["Intensity", "CO2eq"], rows));
}

function places(found) {
  const [kwh, least, most] = found.kwh;
  const rows = page.places.map(([code, name, g, low, high, year, isKept]) => ({
    name, g, year, value: kwh * g, low: least * low, high: most * high, isHere: code === found.here, isKept,
  }));
  const kept = rows.filter((row) => row.isKept || row.isHere);
  const all = el("details", null, el("summary", null, `All ${rows.length} countries as a table`));
  all.addEventListener("toggle", () => {
    if (all.open && all.children.length < 2) {
      all.append(plainTable("CO2eq of the same run", ["Country", "gCO2eq/kWh", "Year", "CO2eq", "Low", "High"],
        rows.map((row) => [row.name, digits(row.g), String(row.year), mass(row.value), mass(row.low), mass(row.high)]), [1, 2, 3, 4, 5]));
    }
  });
  return figure("The same run in other countries", found.note, true,
    barTable("Yearly averages, lowest first", ["Country", "Intensity", "CO2eq"],
      kept.map((row) => ({ ...row, name: row.isHere ? `${row.name} (here)` : row.name, cells: [`${digits(row.g)} g/kWh`, mass(row.value)] }))), all);
}

function sectionOf(found) {
  const marks = found.marks || [];
  const grid = el("div", { class: "grid" });
  const add = (made) => { if (made) grid.append(...[made].flat()); };
  if (found.power) add(power(found.power, marks));
  if (found.intensity) add(intensity(found.intensity));
  if (found.used) {
    add(used("Energy so far, and as it was predicted", found.used, "energy", "Wh", 1000, found.used.energy_note));
    add(used("CO2eq so far, and as it was predicted", found.used, "co2eq", "g", 1, found.used.co2eq_note));
  }
  if (found.epochs) add(epochs(found.epochs));
  if (found.shares) add(shares(found.shares));
  if (found.spans) add(spans(found.spans));
  if (found.methods) add(methods(found.methods));
  if (found.places) add(places(found.places));
  const names = ["Device", "Host", "Mean power", "Energy", "Coverage", "Basis", "In the sum"];
  return el("div", null,
    kpis(found.kpis), list("Warnings", found.warnings, false), grid,
    el("section", { class: "block" }, el("h3", null, "Devices"),
      found.devices.length ? plainTable("Energy without PUE, with no more digits than its 90 % range supports", names, found.devices, [2, 3, 4]) : el("p", null, "No device was measured.")),
    el("section", { class: "block" }, el("h3", null, "What the figures rest on"),
      el("dl", { class: "facts" }, ...found.facts.flatMap(([label, text]) => [el("dt", null, label), el("dd", null, text)]))),
    el("p", { class: "note" }, `Measured by aiocarbon ${found.version || "of an unknown version"}.`));
}

// The first charts at once, the others one by one behind them: a page can be read before its last chart is drawn.
let waiting = [];

function start(container) {
  waiting.push(...[...container.querySelectorAll("figure")].filter((made) => made.start));
  for (const made of waiting.splice(0, 2)) made.start();
  setTimeout(startNext);
}

function startNext() {
  const next = waiting.shift();
  if (!next) {
    performance.mark("drawn");
    return;
  }
  if (next.isConnected) next.start();
  setTimeout(startNext);
}

function startAll() {
  for (const made of waiting.splice(0)) if (made.isConnected) made.start();
}

function heading(row, level) {
  const isOdd = row.state !== "ended";
  return el("div", { class: "runhead" }, el(level, null, row.name || row.run_id), el("span", { class: isOdd ? "pill odd" : "pill" }, row.state),
    el("span", { class: "sub" }, `${row.name ? `${row.run_id}, ` : ""}on ${row.host}`));
}

function overview(rows) {
  const body = rows.map((row, n) => el("tr", null,
    el("th", { scope: "row" }, el("a", { href: `#run-${row.n === undefined ? n : row.n}` }, row.name || row.run_id)),
    ...[row.when, row.duration, row.energy, row.co2eq, row.basis, row.host, row.state].map((text, i) => el("td", { class: i > 0 && i < 4 ? "num" : null }, text))));
  const heads = ["Run", "Begin, UTC", "Time", "Energy", "CO2eq", "Basis", "Host", "State"];
  return el("section", { class: "block" }, el("h2", null, `${rows.length} runs`),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All runs" }, el("table", { class: "overview" },
      el("caption", null, "Energy with each run's PUE; CO2eq estimated from energy and intensity"),
      el("thead", null, el("tr", null, ...heads.map((head, i) => el("th", { scope: "col", class: i > 1 && i < 5 ? "num" : null }, head)))),
      el("tbody", null, ...body))));
}

function fill(box, found) {
  const made = sectionOf(found);
  box.replaceChildren(made);
  start(made);
  sweep();
}

function one(row) {
  const body = el("div");
  const section = el("section", { class: "run", id: "run-0" }, heading(row, "h2"), body);
  main.append(section);
  if (row.detail) fill(body, row.detail);
  return body;
}

function box(row, n, isOpen, load) {
  const body = el("div", null, el("p", { class: "loading" }, row.detail ? "" : "The details of this run are not in this page."));
  const made = el("details", { class: "runbox", id: `run-${n}`, open: isOpen },
    el("summary", null, el("h2", null, row.name || row.run_id), el("span", { class: "sub" }, `${row.when} UTC, ${row.duration}, energy ${row.energy}, CO2eq ${row.co2eq}, ${row.basis}, ${row.state}`)), body);
  made.show = () => {
    if (made.hasShown) return;
    made.hasShown = true;
    if (row.detail) fill(body, row.detail);
    else if (load) load(row, body);
  };
  made.addEventListener("toggle", () => { if (made.open) made.show(); });
  return made;
}

function openTarget() {
  const target = location.hash.startsWith("#run-") ? document.getElementById(location.hash.slice(1)) : null;
  if (target && target.show) {
    target.open = true;
    target.show();
    target.scrollIntoView();
  }
}

function show() {
  document.getElementById("made").textContent = page.live ? "" : `Energy and CO2eq of ${page.runs.length === 1 ? "a run" : `${page.runs.length} runs`}; made ${page.made}`;
  document.getElementById("foot").append(`aiocarbon ${page.version}. All times are UTC. This page asks ${page.live ? "only aiocarbon dash on this machine" : "nobody"} for anything. Charts: uPlot (MIT).`);
  if (page.live) return;
  main.replaceChildren();
  if (page.total) main.append(kpis(page.total.kpis));
  const problems = list("Problems of reading", page.problems, false);
  if (problems) main.append(problems);
  if (page.runs.length === 1) {
    one(page.runs[0]);
    return;
  }
  main.append(overview(page.runs));
  page.runs.forEach((row, n) => main.append(box(row, n, false, null)));
  openTarget();
}

window.addEventListener("hashchange", openTarget);
let isOpened = [];
window.addEventListener("beforeprint", () => {
  document.documentElement.classList.add("print");
  isOpened = [...document.querySelectorAll("details.runbox:not([open])")].slice(0, 20);
  for (const made of isOpened) {
    made.open = true;
    made.show();
  }
  startAll();
  redraw();
});
window.addEventListener("afterprint", () => {
  document.documentElement.classList.remove("print");
  for (const made of isOpened) made.open = false;
  redraw();
});

show();
