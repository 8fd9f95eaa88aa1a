// Keeps what a development page lists fresh: asks for the page again whenever the server says that something changed.
"use strict";

const live = document.getElementById("live");

async function refresh() {
  const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
  for (const part of document.querySelectorAll("[data-fresh]")) {
    const scrolled = part.querySelector(".scroll")?.scrollTop ?? 0;
    part.replaceChildren(...page.getElementById(part.id).childNodes);
    if (scrolled) part.querySelector(".scroll").scrollTop = scrolled;
  }
  document.dispatchEvent(new Event("campanile:drawn"));
}

function show(on) {
  live.hidden = false;
  live.className = `st live ${on ? "ok" : "warn"}`;
  live.lastChild.textContent = on ? "Live" : "Reconnecting";
}

const stream = new EventSource(live.dataset.stream);
stream.addEventListener("open", () => {
  show(true);
  // What came while the stream was down.
  refresh();
});
stream.addEventListener("message", refresh);
stream.addEventListener("error", () => show(false));
