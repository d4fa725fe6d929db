for (const head of document.querySelectorAll("th")) {
  head.tabIndex = 0;
  const sort = () => {
    const table = head.closest("table"), groups = table.classList.contains("detailed");
    const column = head.cellIndex, down = head.getAttribute("aria-sort") === "ascending";
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const number = text => text.trim() === "" ? NaN : Number(text);
    const first = part => groups ? part.rows[0] : part;  // with its details, or a row alone
    const parts = groups ? [...table.tBodies] : [...table.tBodies[0].rows];
    parts.sort((a, b) => {
      const x = value(first(a)), y = value(first(b)), m = number(x), n = number(y);
      if (isNaN(m) && isNaN(n)) return (down ? -1 : 1) * x.localeCompare(y);
      if (isNaN(m) || isNaN(n)) return isNaN(m) ? 1 : -1;
      return (down ? -1 : 1) * (m - n);
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    (groups ? table : table.tBodies[0]).append(...parts);
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}
