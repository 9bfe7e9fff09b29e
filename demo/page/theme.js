// Light or dark: as the system says, until the visitor says something else. Runs before anything is painted.
(() => {
  const KEY = "nextclick.theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  function chosen() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is not allowed here
    }
  }

  function isDark() {
    return (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  }

  function label() {
    document.getElementById("theme")?.setAttribute("aria-pressed", String(isDark()));
  }

  function toggle() {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem(KEY, root.dataset.theme);
    } catch {
      // then it holds for this page only
    }
    label();
  }

  const before = chosen();
  if (before === "light" || before === "dark") root.dataset.theme = before;
  system.addEventListener("change", label);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", toggle);
    label();
  });
})();
