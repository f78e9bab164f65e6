// Drawing over the calibration picture: everything is written into the form's fields, which alone are saved.
"use strict";
(() => {
  const stage = document.getElementById("stage"), form = document.getElementById("drawing");
  const picture = document.getElementById("picture"), frame = document.getElementById("frame");
  const shapes = document.getElementById("shapes"), handles = document.getElementById("handles");
  const hint = document.getElementById("hint"), told = document.getElementById("told"), counts = document.getElementById("counts");
  const say = stage.dataset, camera = encodeURIComponent(say.camera), kept = `storefront-drawing-${location.pathname}`;
  const SVG = "http://www.w3.org/2000/svg";
  let picking = null; // what the next taps into the picture are for
  let fresh = 1000; // numbers of rows that are added here

  const rows = () => [...form.querySelectorAll("#rows .shape")];
  const field = (row, name) => row.querySelector(`[name$="-${name}"]`);
  const text = (row, name) => field(row, name)?.value.trim() ?? "";
  const number = (row, name) => (text(row, name) === "" ? NaN : Number(text(row, name)));
  const round = (value) => String(Math.round(Math.min(1, Math.max(0, value)) * 10000) / 10000);
  const corners = (row) => text(row, "corners").split(/[;\n]+/).filter((it) => it.trim()).map((it) => it.trim().split(/[\s,]+/).map(Number));
  const write = (row, points) => { field(row, "corners").value = points.map((it) => it.map(round).join(" ")).join("; "); };
  const called = (row) => text(row, "name") || row.querySelector("legend").textContent;
  const gone = (row) => field(row, "remove").checked;

  // The points of a row: what a person calls each, where it is, how it is moved.
  const points = (row) => {
    const kind = row.dataset.shape;
    if (kind === "line") return [["1", say.start], ["2", say.end]].map(([n, name]) => ({
      label: name.replace("%s", called(row)), end: n === "2", x: number(row, `x${n}`), y: number(row, `y${n}`),
      move: (x, y) => { field(row, `x${n}`).value = round(x); field(row, `y${n}`).value = round(y); },
    }));
    if (kind === "person") {
      const foot = number(row, "foot"), height = number(row, "height"), x = field(row, "foot").closest(".shape").nextElementSibling ? 0.42 : 0.58;
      return [
        { label: `${called(row)}: ${say.feet}`, x, y: foot, move: (_, y) => { const head = number(row, "foot") - number(row, "height"); field(row, "foot").value = round(y); field(row, "height").value = round(Math.max(0.01, y - head)); } },
        { label: `${called(row)}: ${say.head}`, end: true, x, y: foot - height, move: (_, y) => { field(row, "height").value = round(Math.max(0.01, number(row, "foot") - y)); } },
      ];
    }
    return corners(row).map(([x, y], index) => ({
      label: `${say.corner.replace("%s", called(row))} ${index + 1}`, x, y,
      move: (nx, ny) => { const all = corners(row); all[index] = [nx, ny]; write(row, all); },
    }));
  };

  const make = (name, attributes, content) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (content) made.textContent = content;
    shapes.append(made);
  };
  const stroke = (name, kind, attributes, width) => {
    make(name, { ...attributes, class: "under", "stroke-width": width * 2.2 });
    make(name, { ...attributes, class: `over ${kind}`, "stroke-width": width });
  };

  const paint = () => {
    const w = frame.naturalWidth || 1600, h = frame.naturalHeight || 900, unit = w / Math.max(300, picture.clientWidth || 300);
    shapes.setAttribute("viewBox", `0 0 ${w} ${h}`);
    shapes.replaceChildren();
    for (const row of rows()) {
      const removed = gone(row), kind = row.dataset.shape, all = points(row).filter((it) => Number.isFinite(it.x) && Number.isFinite(it.y));
      row.classList.toggle("gone", removed);
      if (removed || !all.length) continue;
      const at = all.map((it) => [it.x * w, it.y * h]);
      if (kind === "zone" || kind === "mask") {
        stroke("polygon", kind, { points: at.map((it) => it.join(",")).join(" ") }, 2.5 * unit);
        const middle = at.reduce(([x, y], it) => [x + it[0] / at.length, y + it[1] / at.length], [0, 0]);
        make("text", { x: middle[0], y: middle[1], "font-size": 14 * unit }, kind === "zone" ? called(row) : "✕");
      } else if (at.length === 2) {
        const [[ax, ay], [bx, by]] = at, long = Math.hypot(bx - ax, by - ay) || 1;
        stroke("line", kind, { x1: ax, y1: ay, x2: bx, y2: by }, 3 * unit);
        if (kind !== "line") continue;
        // In is to the right of the line, looking from start to end; y grows downwards.
        const nx = -(by - ay) / long, ny = (bx - ax) / long, mx = (ax + bx) / 2, my = (ay + by) / 2, far = 46 * unit, tip = 9 * unit;
        const ex = mx + nx * far, ey = my + ny * far;
        stroke("path", "line", { d: `M${mx} ${my}L${ex} ${ey}M${ex - nx * tip - ny * tip} ${ey - ny * tip + nx * tip}L${ex} ${ey}L${ex - nx * tip + ny * tip} ${ey - ny * tip - nx * tip}` }, 3 * unit);
        make("text", { x: mx + nx * (far + 16 * unit), y: my + ny * (far + 16 * unit), "font-size": 17 * unit }, say.in);
        make("text", { x: mx - nx * 26 * unit, y: my - ny * 26 * unit, "font-size": 17 * unit }, say.out);
        make("text", { x: ax + (bx - ax) * 0.2 - nx * 14 * unit, y: ay + (by - ay) * 0.2 - ny * 14 * unit, "font-size": 13 * unit }, called(row));
      }
    }
  };

  const place = () => { // handles stay the same elements while the points are the same, so that the focus stays
    const wanted = rows().filter((row) => !gone(row)).flatMap((row) => points(row)).filter((it) => Number.isFinite(it.x) && Number.isFinite(it.y));
    while (handles.children.length > wanted.length) handles.lastChild.remove();
    while (handles.children.length < wanted.length) handles.append(handle());
    wanted.forEach((it, index) => {
      const button = handles.children[index];
      button.point = it;
      button.classList.toggle("end", Boolean(it.end));
      button.setAttribute("aria-label", `${it.label}: ${Math.round(it.x * 100)} %, ${Math.round(it.y * 100)} %`);
      button.style.left = `${Math.min(1, Math.max(0, it.x)) * 100}%`;
      button.style.top = `${Math.min(1, Math.max(0, it.y)) * 100}%`;
    });
  };
  const show = () => { paint(); place(); };
  const changed = () => { show(); keep(); };

  const where = (event) => {
    const box = picture.getBoundingClientRect();
    return [Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)), Math.min(1, Math.max(0, (event.clientY - box.top) / box.height))];
  };
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const handle = () => {
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("pointerdown", (event) => { event.preventDefault(); button.focus(); button.setPointerCapture(event.pointerId); button.held = true; });
    button.addEventListener("pointermove", (event) => { if (button.held) { button.point.move(...where(event)); changed(); } });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(end, () => { button.held = false; });
    button.addEventListener("keydown", (event) => {
      const way = ARROWS[event.key];
      if (!way) return;
      event.preventDefault();
      const far = event.shiftKey ? 0.05 : 0.005;
      button.point.move(button.point.x + way[0] * far, button.point.y + way[1] * far);
      changed();
    });
    return button;
  };

  // Two taps: feet, then head.
  const pick = (row) => { picking = { row, foot: null }; picture.classList.add("picking"); hint.textContent = say.foot; picture.scrollIntoView({ block: "nearest" }); };
  picture.addEventListener("click", (event) => {
    if (!picking) return;
    const [, y] = where(event);
    if (picking.foot === null) { picking.foot = y; hint.textContent = say.top; return; }
    field(picking.row, "foot").value = round(Math.max(y, picking.foot));
    field(picking.row, "height").value = round(Math.max(0.01, Math.abs(picking.foot - y)));
    picking = null;
    picture.classList.remove("picking");
    hint.textContent = say.help;
    changed();
  });

  const add = (kind) => {
    if (kind === "person" && rows().filter((row) => row.dataset.shape === "person" && !gone(row)).length >= 2) return null;
    const made = document.querySelector(`template[data-new="${kind}"]`).content.firstElementChild.cloneNode(true);
    fresh += 1;
    for (const input of made.querySelectorAll("[name]")) input.name = input.name.replace("-N-", `-${fresh}-`);
    for (const part of made.querySelectorAll(".js")) part.hidden = false;
    form.querySelector("#rows").append(made);
    const taken = rows().map((row) => text(row, "name")), free = (stem) => { let n = 1; while (taken.includes(`${stem}-${n}`)) n += 1; return `${stem}-${n}`; };
    if (kind === "line") { field(made, "name").value = free("line"); for (const [key, value] of [["x1", 0.5], ["y1", 0.2], ["x2", 0.5], ["y2", 0.8]]) field(made, key).value = value; }
    if (kind === "zone") field(made, "name").value = free("zone");
    if (kind === "zone" || kind === "mask") write(made, [[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]]);
    return made;
  };
  for (const button of document.querySelectorAll("[data-add]")) button.addEventListener("click", () => {
    const made = add(button.dataset.add);
    if (made && button.dataset.add === "person") pick(made);
    changed();
  });
  form.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]"), row = button?.closest(".shape");
    if (!row) return;
    if (button.dataset.do === "turn") for (const axis of ["x", "y"]) {
      const a = field(row, `${axis}1`), b = field(row, `${axis}2`);
      [a.value, b.value] = [b.value, a.value];
    }
    if (button.dataset.do === "corner") { const all = corners(row), a = all.at(-1) ?? [0.4, 0.4], b = all[0] ?? [0.6, 0.6]; write(row, [...all, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]]); }
    if (button.dataset.do === "person") pick(row);
    changed();
  });
  form.addEventListener("input", changed);

  // What is drawn is kept in this tab until it is saved.
  const keep = () => { try { sessionStorage.setItem(kept, JSON.stringify({ mark: form.elements.mark.value, html: rows().map((row) => [row.dataset.shape, [...row.querySelectorAll("[name]")].map((it) => [it.name.replace(/^\w+-\d+-/, ""), it.type === "checkbox" ? it.checked : it.value])]) })); } catch { /* no room: the page itself still has it */ } };
  const restore = () => {
    let held = null;
    try { held = JSON.parse(sessionStorage.getItem(kept) ?? "null"); } catch { /* not ours */ }
    if (!held || told.querySelector(".problem, .theirs, [role=status]")) return;
    form.elements.mark.value = held.mark; // if somebody has changed it meanwhile, saving says so
    form.querySelector("#rows").replaceChildren();
    for (const [kind, values] of held.html) {
      const row = add(kind);
      if (row) for (const [name, value] of values) { const input = field(row, name); if (!input) continue; if (input.type === "checkbox") input.checked = value; else input.value = value; }
    }
    renumber();
    note(say.kept);
    const drop = document.createElement("button");
    drop.type = "button";
    drop.textContent = say.drop;
    drop.addEventListener("click", () => { sessionStorage.removeItem(kept); location.replace(location.pathname); });
    told.append(drop);
  };
  const note = (words) => { const line = document.createElement("p"); line.className = "note-box"; line.setAttribute("role", "status"); line.textContent = words; told.replaceChildren(line); };
  const renumber = () => { // the rows that were added get numbers that the gateway looks at
    const next = {};
    for (const row of rows()) {
      const kind = row.dataset.shape, number = next[kind] ?? 0;
      next[kind] = number + 1;
      for (const input of row.querySelectorAll("[name]")) input.name = input.name.replace(/^\w+-\d+-/, `${kind}-${number}-`);
    }
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    renumber();
    let answer;
    try { answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), headers: { accept: "text/html" } }); }
    catch { note(say.lost); return; }
    if (answer.ok && answer.redirected && !answer.url.includes("/sign-in")) { sessionStorage.removeItem(kept); location.assign(answer.url); return; }
    if (answer.status === 401 || answer.status === 403 || answer.redirected) { keep(); note(say.signin); return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html"), news = page.getElementById("told");
    if (!news) { note(say.lost); return; }
    told.replaceChildren(...document.adoptNode(news).childNodes);
    form.elements.mark.value = page.querySelector("#drawing [name=mark]")?.value ?? form.elements.mark.value;
    keep();
    told.scrollIntoView({ block: "nearest" });
  });

  // The picture: asked for once and by the button, since every look is in the audit trail.
  frame.addEventListener("load", () => { frame.classList.remove("away"); hint.textContent = say.help; show(); });
  frame.addEventListener("error", () => { frame.classList.add("away"); hint.textContent = say.dark; show(); });
  const look = () => { frame.src = `/api/cameras/${camera}/snapshot?${Date.now()}`; };
  document.getElementById("again").addEventListener("click", look);
  const began = {};
  const count = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(`/api/cameras/${camera}`, { redirect: "error" });
      if (!answer.ok) throw new Error("away");
      const seen = await answer.json();
      counts.replaceChildren();
      for (const line of seen.counts) {
        const first = (began[line.line] ??= line);
        if (line.in_count < first.in_count || line.out_count < first.out_count) began[line.line] = line;
        const box = document.createElement("div"), name = document.createElement("dt"), numbers = document.createElement("dd");
        name.textContent = line.line;
        numbers.textContent = `${say.in} ${line.in_count - began[line.line].in_count} · ${say.out} ${line.out_count - began[line.line].out_count}`;
        box.append(name, numbers);
        counts.append(box);
      }
      if (!["live", "ended"].includes(seen.state.state) && !frame.classList.contains("away")) hint.textContent = say.dark;
      else if (hint.textContent === say.dark && seen.state.state === "live") { hint.textContent = say.help; if (frame.classList.contains("away")) look(); }
    } catch { counts.replaceChildren(); }
  };
  frame.classList.add("away");
  restore();
  look();
  count();
  setInterval(count, 1000);
  addEventListener("resize", show);
  hint.textContent = say.help;
  show();
})();
