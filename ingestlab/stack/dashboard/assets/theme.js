// In a pane of JupyterLab our pages have the colours of its theme.
"use strict";

const root = document.documentElement;
const FROM_JUPYTER = {
  page: "layout-color1", card: "layout-color1", track: "layout-color2", line: "border-color2",
  ink: "ui-font-color1", soft: "ui-font-color2",
};

function followJupyter() {
  let body;
  try {
    body = parent !== window && parent.document.body; // another origin's document throws
  } catch {
    return;
  }
  if (!body || !body.dataset.jpThemeLight) return;
  const apply = () => {
    const style = parent.getComputedStyle(body);
    root.dataset.theme = body.dataset.jpThemeLight === "true" ? "light" : "dark";
    for (const [mine, theirs] of Object.entries(FROM_JUPYTER)) {
      root.style.setProperty(`--${mine}`, style.getPropertyValue(`--jp-${theirs}`));
    }
  };
  apply();
  new MutationObserver(apply).observe(body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
}

if (parent !== window) root.dataset.framed = "";
followJupyter();
