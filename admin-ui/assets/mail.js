// Keeps a list of what was caught fresh: asks for the page again whenever the server says that something changed.
"use strict";

const live = document.getElementById("live");

async function refresh() {
  const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
  for (const id of ["mails", "count"]) {
    document.getElementById(id).replaceChildren(...page.getElementById(id).childNodes);
  }
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
