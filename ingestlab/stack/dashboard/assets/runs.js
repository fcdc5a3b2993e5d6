// What the pages of runs can do beyond HTML: they stay up to date, and copy commands.
"use strict";

async function update() {
  const status = document.getElementById("connection");
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(20000) });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok || !fresh.querySelector("main")) throw new Error(answer.statusText);
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (!other || part.innerHTML === other.innerHTML || part.contains(document.getSelection().focusNode) && !document.getSelection().isCollapsed) continue;
      if ([...part.querySelectorAll("input:not([type=hidden])")].some((input) => input.value || input === document.activeElement)) continue; // somebody writes
      const open = new Set([...part.querySelectorAll("details[open]")].map((d) => d.id));
      const focus = part.contains(document.activeElement) ? document.activeElement.id : "";
      for (const details of other.querySelectorAll("details")) details.open ||= open.has(details.id);
      part.replaceChildren(...other.childNodes);
      if (focus) document.getElementById(focus)?.focus();
    }
    copying();
    document.querySelector("main").dataset.every = fresh.querySelector("main").dataset.every;
    status.hidden = true;
    status.textContent = "";
  } catch {
    if (status.hidden) status.textContent = `Disconnected since ${new Date().toLocaleTimeString()}. The page tries again.`;
    status.hidden = false;
  }
}

async function live() {
  for (;;) {
    const every = Number(document.querySelector("main").dataset.every || 0);
    if (!every) return;
    await new Promise((wake) => setTimeout(wake, every * 1000));
    if (!document.hidden) await update();
  }
}

function copying() {
  if (!navigator.clipboard) return; // only on safe origins
  for (const code of document.querySelectorAll(".commands code:not(:has(+ button))")) {
    const button = document.createElement("button");
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${code.textContent}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    });
    code.after(" ", button);
  }
}

if (new URLSearchParams(location.search).has("done")) history.replaceState(null, "", location.pathname); // told once
copying();
live();
