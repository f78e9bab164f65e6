// Taps are written down on the phone first, then sent one after the other until the gateway has them.
"use strict";
(() => {
  const box = document.getElementById("clicker");
  if (!box) return;
  const say = box.dataset, form = document.getElementById("taps"), csrf = form.elements.csrf.value;
  const store = `storefront-taps-${say.test}`, left = document.getElementById("left"), waits = document.getElementById("waits");
  const state = { queue: [], done: [], refused: 0 };
  let sending = false, signedOut = false, ends = Date.now() + Number(say.left) * 1000;
  let known = { in: Number(say.in), out: Number(say.out) }; // what the gateway has confirmed
  try { Object.assign(state, JSON.parse(localStorage.getItem(store) ?? "{}")); } catch { /* not ours */ }
  const keep = () => { try { localStorage.setItem(store, JSON.stringify(state)); } catch { /* no room: they are in this page */ } };

  const show = () => {
    for (const way of ["in", "out"]) {
      const waiting = state.queue.filter((it) => it.direction === way).length - state.queue.filter((it) => it.undo && it.way === way).length;
      document.getElementById(`count-${way}`).textContent = Math.max(0, known[way] + waiting);
    }
    const words = [];
    if (state.queue.length > 0 && (state.slow || signedOut)) words.push(say.waiting.replace("%s", state.queue.length));
    if (state.refused) words.push(say.refused.replace("%s", state.refused));
    if (signedOut) words.push(say.signin);
    waits.textContent = words.join(" ");
    waits.hidden = words.length === 0;
  };
  const call = async (path, values) => fetch(`/api/tests/${encodeURIComponent(say.test)}/${path}`, {
    method: "POST", body: new URLSearchParams(values), headers: { "x-csrf-token": csrf }, redirect: "error", signal: AbortSignal.timeout(5000),
  });
  const send = async () => {
    if (sending || signedOut) return;
    sending = true;
    try {
      while (state.queue.length) {
        const next = state.queue[0];
        const answer = next.undo ? await call("undo", { key: next.undo })
          : await call("taps", { direction: next.direction, key: next.key, at_ms: next.at, sent_ms: Math.max(next.at, Date.now()) });
        if (answer.status === 401 || answer.status === 403) { signedOut = true; break; }
        if (answer.status >= 500) throw new Error("busy");
        state.queue.shift();
        state.slow = false;
        if (answer.ok) { const view = await answer.json(); known = { in: view.tapped_in, out: view.tapped_out }; ends = Date.now() + view.left_s * 1000; }
        else state.refused += 1;
        keep();
        show();
      }
    } catch { state.slow = true; } // no network: they stay, with their time
    sending = false;
    keep();
    show();
  };
  form.addEventListener("submit", (event) => {
    const what = event.submitter?.value;
    if (what === "stop") { if (state.queue.length) { event.preventDefault(); send(); } return; }
    if (!["in", "out", "undo"].includes(what)) return;
    event.preventDefault();
    if (what === "undo") {
      const last = state.done.pop();
      if (last) {
        const held = state.queue.findIndex((it) => it.key === last.key);
        if (held > 0 || (held === 0 && !sending)) state.queue.splice(held, 1);
        else state.queue.push({ undo: last.key, way: last.way });
      }
    } else {
      const key = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
      state.queue.push({ direction: what, key, at: Date.now() });
      state.done.push({ key, way: what });
      navigator.vibrate?.(20);
    }
    keep();
    show();
    send();
  });
  const clock = () => {
    const seconds = Math.max(0, Math.round((ends - Date.now()) / 1000));
    left.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    if (seconds === 0 && !state.queue.length) location.replace(location.pathname);
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { clock(); send(); } });
  addEventListener("online", send);
  setInterval(() => { clock(); if (state.queue.length) send(); }, 1000);
  clock();
  show();
  send();
})();
