// Shows how far a report is while it is made; without this file the same links load it all the same.
"use strict";
(() => {
  const box = document.getElementById("job");
  const bar = box.querySelector("progress");
  const said = box.querySelector("[role=status]");
  const stop = box.querySelector("button");
  let job = null;
  const end = (text) => {
    job?.close(); // the gateway stops making it
    job = null;
    bar.hidden = stop.hidden = true;
    said.textContent = text;
  };
  for (const link of document.querySelectorAll("a[data-job]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      end(box.dataset.making);
      box.hidden = bar.hidden = stop.hidden = false;
      bar.value = 0;
      job = new EventSource(link.dataset.job);
      job.onmessage = (message) => { bar.value = JSON.parse(message.data).done; };
      job.addEventListener("made", (message) => {
        const made = JSON.parse(message.data);
        end(made.empty ? box.dataset.empty : box.dataset.made);
        location.href = made.url;
      });
      job.addEventListener("failed", () => end(box.dataset.failed));
      job.onerror = () => end(box.dataset.failed);
    });
  }
  stop.addEventListener("click", () => end(box.dataset.stopped));
})();
