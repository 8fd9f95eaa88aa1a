// The search box offers words while somebody types: a list under it, by arrow keys or pointer. Without it the box is what it is.
(() => {
  const WAIT = 150;
  for (const input of document.querySelectorAll("input[data-words]")) {
    const box = document.createElement("ul");
    Object.assign(box, { id: `${input.name}-words`, className: "words", hidden: true });
    box.setAttribute("role", "listbox");
    box.setAttribute("aria-label", "Words to search by");
    input.after(box);
    // A search field may be no combobox; a text field may.
    input.type = "text";
    const said = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": box.id };
    for (const [name, value] of Object.entries(said)) input.setAttribute(name, value);

    let at = -1;
    let timer = 0;
    let asked = null;
    const options = () => [...box.children];
    function mark(next) {
      at = next;
      options().forEach((option, i) => option.setAttribute("aria-selected", String(i === at)));
      if (at < 0) return input.removeAttribute("aria-activedescendant");
      input.setAttribute("aria-activedescendant", options()[at].id);
      options()[at].scrollIntoView({ block: "nearest" });
    }
    function show(open) {
      box.hidden = !open;
      input.setAttribute("aria-expanded", String(open));
      if (!open) mark(-1);
    }
    function close() {
      clearTimeout(timer);
      asked?.abort();
      show(false);
    }
    function pick(option) {
      // A key wants its value: the list goes on with those.
      const whole = option.dataset.whole;
      input.value = whole.endsWith(":") ? whole : `${whole} `;
      input.focus();
      if (whole.endsWith(":")) ask();
      else close();
    }
    function draw(offers) {
      box.replaceChildren(...offers.map(({ whole, word, about }, i) => {
        const option = document.createElement("li");
        option.id = `${box.id}-${i}`;
        option.setAttribute("role", "option");
        option.dataset.whole = whole;
        const make = (tag, textContent) => option.append(Object.assign(document.createElement(tag), { textContent }));
        make("b", word);
        if (about) make("span", about);
        return option;
      }));
      show(offers.length > 0 && document.activeElement === input);
      mark(-1);
    }
    async function ask() {
      asked?.abort();
      asked = new AbortController();
      try {
        const answer = await fetch(`${input.dataset.words}?${new URLSearchParams({ q: input.value })}`, { signal: asked.signal });
        if (answer.ok) draw(await answer.json());
        else close();
      } catch { /* another was asked meanwhile, or the server is away: what is typed can be sent all the same */ }
    }
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(ask, WAIT);
    });
    input.addEventListener("keydown", (e) => {
      const n = box.children.length;
      if (e.key === "ArrowDown" && box.hidden) {
        e.preventDefault();
        ask();
      } else if (e.key === "ArrowDown" || e.key === "ArrowUp") {
        if (box.hidden) return;
        e.preventDefault();
        // From the box into the list and round: -1 is the box itself.
        const by = e.key === "ArrowDown" ? 1 : -1;
        mark((at + 1 + by + n + 1) % (n + 1) - 1);
      } else if (e.key === "Enter" && !box.hidden && at >= 0) {
        e.preventDefault();
        pick(options()[at]);
      } else if (e.key === "Escape" && !box.hidden) {
        // Only the list: the next one leaves the box.
        e.preventDefault();
        e.stopPropagation();
        close();
      }
    });
    input.addEventListener("blur", close);
    // Before the box loses its focus.
    box.addEventListener("pointerdown", (e) => {
      const option = e.target.closest("li");
      e.preventDefault();
      if (option) pick(option);
    });
  }
})();
