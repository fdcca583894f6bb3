// Copy link, export and colours: buttons in the bar, or a menu on a phone.

import { setAttribute, setText } from "./dom.js";

const THEMES = ["system", "light", "dark"];
const COPIED_MS = 1600;

/** `recolour` is called when the page's colours have changed. */
export function connectMenu(recolour) {
  connectOpening();
  connectCopy();
  connectTheme(recolour);
}

function connectOpening() {
  const button = document.getElementById("menu-button");
  const items = document.getElementById("menu");
  const open = (isOpen) => {
    items.classList.toggle("open", isOpen);
    setAttribute(button, "aria-expanded", `${isOpen}`);
  };
  button.addEventListener("click", () => open(!items.classList.contains("open")));
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".menu")) open(false);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !items.classList.contains("open")) return;
    open(false);
    button.focus();
  });
}

function connectCopy() {
  const button = document.getElementById("copy-link");
  const label = button.textContent;
  button.addEventListener("click", async () => {
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(location.href);
    } catch {
      said = "Copy it from the address bar";
    }
    setText(button, said);
    setText(document.getElementById("announce"), said);
    setTimeout(() => setText(button, label), COPIED_MS);
  });
}

function connectTheme(recolour) {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const show = () => {
    const theme = root.dataset.theme ?? "system";
    setText(document.getElementById("theme-label"), `Colours: ${theme}`);
    setAttribute(button, "aria-label", `Colours: ${theme}`);
    setAttribute(button, "title", `Colours: ${theme}`);
  };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "system") + 1) % THEMES.length];
    if (next === "system") {
      delete root.dataset.theme;
      localStorage.removeItem("upwell-theme");
    } else {
      root.dataset.theme = next;
      localStorage.setItem("upwell-theme", next);
    }
    show();
    recolour();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  show();
}
