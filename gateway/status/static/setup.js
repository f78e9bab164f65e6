// Small helps of the set-up pages: states that are looked at again every two seconds, and printing.
"use strict";
(() => {
  for (const part of document.querySelectorAll(".js")) part.hidden = false;
  const look = async (place) => {
    if (document.hidden || place.contains(document.activeElement)) return;
    try {
      const answer = await fetch(place.dataset.refresh, { headers: { accept: "text/html" }, redirect: "error" });
      if (answer.ok) {
        const html = await answer.text(); // escaped where it was rendered
        if (place.innerHTML !== html) place.innerHTML = html;
      }
    } catch { /* the network is away for a moment: it is looked at again */ }
  };
  for (const place of document.querySelectorAll("[data-refresh]")) {
    const every = setInterval(() => {
      if (place.querySelector("[data-state=done]")) clearInterval(every);
      else look(place);
    }, 2000);
  }
  document.querySelector("[data-print]")?.addEventListener("click", () => print());
})();
