"use strict";
for (const section of document.querySelectorAll("section")) {
  const marks = (number, on) => {
    for (const part of section.querySelectorAll('[data-variable="' + number + '"]')) {
      part.classList.toggle("on", on);
      const box = part.querySelector("rect");
      if (box) box.classList.toggle("on", on);
    }
  };
  for (const part of section.querySelectorAll("[data-variable]")) {
    part.addEventListener("mouseenter", () => marks(part.dataset.variable, true));
    part.addEventListener("mouseleave", () => marks(part.dataset.variable, false));
  }
  const filter = section.querySelector("input");
  if (filter) filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const row of section.querySelectorAll("tbody tr")) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    }
  });
}
