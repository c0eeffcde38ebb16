// Shows the values at the epoch below the pointer, and hides a curve when its name is clicked. The figures are complete without it.
addEventListener("DOMContentLoaded", () => {
  const SVG = "http://www.w3.org/2000/svg";
  for (const figure of document.querySelectorAll("figure.curves")) {
    for (const key of figure.querySelectorAll(".key")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = key.className;
      button.innerHTML = key.innerHTML;
      button.title = "show or hide this curve";
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(shown));
        for (const curve of figure.querySelectorAll("g[data-series]")) {
          if (curve.dataset.series === key.dataset.series) curve.classList.toggle("off", !shown);
        }
      });
      key.replaceWith(button);
    }
    const readout = document.createElement("output");
    figure.querySelector("figcaption").append(readout);
    for (const svg of figure.querySelectorAll(".panels svg")) {
      const curves = [...svg.querySelectorAll("g[data-series]")].map((g) => [g, JSON.parse(g.dataset.points)]);
      const cursor = document.createElementNS(SVG, "path");
      cursor.setAttribute("class", "cursor");
      svg.append(cursor);
      svg.addEventListener("pointermove", (event) => {
        const box = svg.getBoundingClientRect();
        const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
        const visible = curves.filter(([g, points]) => points.length && !g.classList.contains("off"));
        const nearest = visible.map(([g, points]) => [
          g, points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a)),
        ]);
        if (!nearest.length) return;
        cursor.setAttribute("d", `M${nearest[0][1][0]} 20V178`);
        const texts = nearest.map(([g, point]) => `${g.dataset.series} ${point[3]}`);
        readout.textContent = `${svg.getAttribute("aria-label")} ${nearest[0][1][2]}: ${texts.join(", ")}`;
      });
      svg.addEventListener("pointerleave", () => {
        cursor.removeAttribute("d");
        readout.textContent = "";
      });
    }
  }
});
