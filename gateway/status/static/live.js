// Puts changed parts of the page in place as the gateway sends them; without it the page reloads every ten seconds.
"use strict";
(() => {
  const source = document.body.dataset.live;
  const gone = document.getElementById("gone");
  let timer = 0;
  const show = (parts) => {
    for (const [id, html] of Object.entries(parts)) {
      const place = document.getElementById(id);
      if (!place || place.innerHTML === html) continue;
      const held = place.contains(document.activeElement) ? document.activeElement : null;
      const scrolled = [...place.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
      place.innerHTML = html; // escaped where it was rendered
      place.querySelectorAll(".scroll").forEach((box, index) => { box.scrollLeft = scrolled[index] || 0; });
      const again = held && (held.getAttribute("href")
        ? place.querySelector(`a[href="${CSS.escape(held.getAttribute("href"))}"]`) : place.querySelector(".scroll"));
      if (again) again.focus({ preventScroll: true });
    }
  };
  const listen = () => {
    const live = new EventSource(source);
    live.onopen = () => { clearTimeout(timer); timer = 0; gone.hidden = true; };
    live.onmessage = (message) => show(JSON.parse(message.data));
    live.addEventListener("role", () => location.reload()); // signed out meanwhile
    live.onerror = () => {
      timer ||= setTimeout(() => { gone.hidden = false; }, 4000); // a moment's break is not worth a word
      if (live.readyState === EventSource.CLOSED) setTimeout(listen, 5000); // refused: the browser gives up, we do not
    };
  };
  listen();
})();
