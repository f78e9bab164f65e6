// Puts changed parts of the page in place as the gateway sends them; without it the page reloads every ten seconds.
"use strict";
(() => {
  const source = document.body.dataset.live;
  const gone = document.getElementById("gone");
  let timer = 0;
  let again = 0;
  let live = null;
  const show = (parts) => {
    for (const [id, html] of Object.entries(parts)) {
      const place = document.getElementById(id);
      if (!place || place.innerHTML === html) continue;
      const held = place.contains(document.activeElement) ? document.activeElement : null;
      const scrolled = [...place.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
      const open = [...place.querySelectorAll("details[open][id]")].map((box) => box.id);
      place.innerHTML = html; // escaped where it was rendered
      place.querySelectorAll(".scroll").forEach((box, index) => { box.scrollLeft = scrolled[index] || 0; });
      for (const name of open) document.getElementById(name)?.setAttribute("open", "");
      if (!held) continue;
      const same = held.getAttribute("href") ? `a[href="${CSS.escape(held.getAttribute("href"))}"]`
        : held.name === "do" ? `button[value="${CSS.escape(held.value)}"]`
        : held.parentElement?.id ? `#${CSS.escape(held.parentElement.id)} > summary` : ".scroll";
      place.querySelector(same)?.focus({ preventScroll: true });
    }
  };
  const listen = () => {
    clearTimeout(again);
    live?.close();
    live = new EventSource(source);
    live.onopen = () => { clearTimeout(timer); timer = 0; gone.hidden = true; };
    live.onmessage = (message) => show(JSON.parse(message.data));
    live.addEventListener("role", () => location.reload()); // signed out meanwhile
    live.onerror = () => {
      timer ||= setTimeout(() => { gone.hidden = false; }, 4000); // a moment's break is not worth a word
      if (live.readyState === EventSource.CLOSED) again = setTimeout(listen, 5000); // refused: the browser gives up, we do not
    };
  };
  // Nobody looks at a hidden page: it costs the gateway nothing until it is looked at again.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { clearTimeout(again); live?.close(); } else listen();
  });
  listen();
})();
