// What is only there in a live page: the list follows the server's events, an open run is asked for again when it has changed.
const AGAIN_MS = 2000;

function live() {
  const status = el("p", { class: "live lost", role: "status" }, "connecting");
  document.querySelector(".top > div").append(status);
  const listed = el("div"), boxes = el("div"), known = new Map();
  let isFirst = true;
  main.replaceChildren(listed, boxes);

  async function load(entry) {
    if (entry.isLoading || document.hidden) return;
    entry.isLoading = true;
    try {
      const answer = await fetch(`/run/${entry.row.n}`);
      if (answer.ok) {
        const found = await answer.json();
        entry.shown = found.version;
        const open = new Set([...entry.body.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
        fill(entry.body, found);
        for (const one of entry.body.querySelectorAll("details > summary")) if (open.has(one.textContent)) one.parentElement.open = true;
      } else {
        entry.body.replaceChildren(el("p", { class: "loading" }, await answer.text()));
      }
    } catch (error) {
      if (error instanceof TypeError && error.message.includes("fetch")) status.className = "live lost";
      else {
        // A fault of this page: it is said, and the next version of the run is tried again.
        console.error(error);
        entry.body.replaceChildren(el("p", { class: "loading" }, `This run cannot be drawn: ${error}`));
      }
    }
    setTimeout(() => { entry.isLoading = false; refresh(entry); }, AGAIN_MS);
  }

  function refresh(entry) {
    if (entry.box.open && entry.shown !== entry.row.version) load(entry);
  }

  function take(found) {
    listed.replaceChildren();
    const problems = list("Problems of reading", found.problems, false);
    if (problems) listed.append(problems);
    const wait = found.is_there ? "holds no runs yet: they will appear here" : "is not there yet: its runs will appear here";
    if (!found.runs.length && !found.unread) listed.append(el("p", null, `${found.folder} ${wait}.`));
    const rest = found.unread ? `, ${found.unread} still to be read` : "";
    status.className = "live";
    status.textContent = `live: ${found.runs.length === 1 ? "1 run" : `${found.runs.length} runs`} of ${found.folder}${rest}`;
    if (found.runs.length > 1) listed.append(overview(found.runs));
    const there = new Set(found.runs.map((row) => row.n));
    for (const [n, entry] of known) if (!there.has(n)) { entry.box.remove(); known.delete(n); }
    for (const row of found.runs) {
      let entry = known.get(row.n);
      if (!entry) {
        const body = el("div", null, el("p", { class: "loading" }, "reading"));
        const made = el("details", { class: "runbox", id: `run-${row.n}` }, el("summary"), body);
        entry = { row, body, box: made, shown: -1, isLoading: false };
        made.show = () => refresh(entry);
        made.addEventListener("toggle", () => refresh(entry));
        known.set(row.n, entry);
      }
      entry.row = row;
      const words = `${row.when} UTC, ${row.duration}, energy ${row.energy}, CO2eq ${row.co2eq}, ${row.basis}, ${row.state}`;
      entry.box.querySelector("summary").replaceChildren(el("h2", null, row.name || row.run_id), el("span", { class: "sub" }, words));
      refresh(entry);
    }
    // In the order of the list, without moving what stands right: a box that moves would lose its place on the screen.
    found.runs.forEach((row, i) => {
      const box = known.get(row.n).box;
      if (boxes.children[i] !== box) boxes.insertBefore(box, boxes.children[i] || null);
    });
    if (isFirst && found.runs.length) {
      isFirst = false;
      known.get(found.runs[0].n).box.open = true;
      openTarget();
    }
    sweep();
  }

  const events = new EventSource("/events");
  events.addEventListener("runs", (event) => take(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    status.className = "live lost";
    status.textContent = "the connection is lost: aiocarbon dash has ended, or will answer again";
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) for (const entry of known.values()) refresh(entry); });
}

if (page.live) live();
