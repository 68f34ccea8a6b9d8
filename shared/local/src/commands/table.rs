//! Text tables for terminals.

use crate::terminal::printable;

/// Formats rows as lines with aligned columns. Cells are escaped, so that they cannot send terminal commands or fake lines.
pub(crate) fn format_table<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell).into_owned())).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Formats rows like [`format_table`]. Lines that are longer than the terminal end with an ellipsis.
///
/// * `columns`: the width of the terminal; `None` keeps all of the text.
pub(crate) fn format_table_within<const N: usize>(rows: &[[String; N]], columns: Option<usize>) -> String {
    let table = format_table(rows);
    let Some(columns) = columns else { return table };
    table.lines().map(|line| cut(line, columns) + "\n").collect()
}

/// Returns the beginning of a line, with an ellipsis if it is longer than `columns` characters.
pub(crate) fn cut(line: &str, columns: usize) -> String {
    match line.char_indices().nth(columns) {
        None => line.to_owned(),
        Some(_) => line.chars().take(columns.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Returns the width of the terminal on standard output, or `None` if it is not a terminal.
pub(crate) fn terminal_columns() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// The width of a table on a terminal whose width is not known, in characters.
const DEFAULT_WIDTH: usize = 100;

/// A column of a table.
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// 0 for a column that is always shown. The column with the highest number is dropped first if the table is too wide.
    pub(crate) priority: u8,
    pub(crate) cells: Vec<String>,
}

impl Column {
    /// Returns the width of the column, in characters.
    fn width(&self) -> usize {
        self.cells.iter().map(|cell| cell.chars().count()).chain([self.title.len()]).max().unwrap_or_default()
    }
}

/// Formats columns as a table of at most `width` characters, if dropping columns can do that. The first column is aligned to the left,
/// others to the right. Cells are escaped.
pub(crate) fn format_columns(mut columns: Vec<Column>, width: usize) -> String {
    for cell in columns.iter_mut().flat_map(|column| &mut column.cells) {
        *cell = printable(cell).into_owned();
    }
    let total = |columns: &[Column]| columns.iter().map(|column| column.width() + 2).sum::<usize>().saturating_sub(2);
    while total(&columns) > width {
        let dropped = columns.iter().map(|column| column.priority).max().filter(|priority| *priority > 0);
        let Some(dropped) = dropped else { break };
        columns.retain(|column| column.priority != dropped);
    }
    let rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or_default();
    let line = |cell: &dyn Fn(&Column) -> String| {
        let mut cells = columns.iter().enumerate().map(|(index, column)| {
            let (text, width) = (cell(column), column.width());
            if index == 0 { format!("{text:width$}") } else { format!("{text:>width$}") }
        });
        let first = cells.next().unwrap_or_default();
        format!("{}\n", cells.fold(first, |line, cell| format!("{line}  {cell}")).trim_end())
    };
    let header = line(&|column| column.title.to_owned());
    (0..rows).fold(header, |text, row| text + &line(&|column| column.cells.get(row).cloned().unwrap_or_default()))
}

/// Returns the width of the terminal, in characters.
pub(crate) fn terminal_width() -> usize {
    terminal_columns().unwrap_or(DEFAULT_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_the_terminal() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned);
        let rows = [row(["ID", "PROGRESS"]), row(["a", "45 % done, 7 resources"])];
        assert_eq!(format_table_within(&rows, Some(10)), "ID  PROGR…\na   45 % …\n");
        assert_eq!(format_table_within(&rows, Some(26)), format_table_within(&rows, None));
        assert_eq!(cut("äöü", 2), "ä…");
    }

    #[test]
    fn a_table_that_is_too_wide_loses_its_least_important_columns() {
        let columns = || {
            let column = |title, priority, cells: [&str; 2]| Column { title, priority, cells: cells.map(str::to_owned).to_vec() };
            vec![column("TYPE", 0, ["Patient", "Group"]), column("SIZE", 2, ["1.00 MB", "-"]), column("COUNT", 1, ["7", "1,000"])]
        };
        assert_eq!(format_columns(columns(), 100), "TYPE        SIZE  COUNT\nPatient  1.00 MB      7\nGroup          -  1,000\n");
        assert_eq!(format_columns(columns(), 22), "TYPE     COUNT\nPatient      7\nGroup    1,000\n");
        assert_eq!(format_columns(columns(), 3), "TYPE\nPatient\nGroup\n");
    }

    #[test]
    fn columns_are_aligned_and_cells_are_escaped() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let table = format_table(&[row(["A", "LONG NAME", "C"]), row(["würde", "x", ""]), row(["1", "\u{1b}\n", "2"])]);
        assert_eq!(table, "A      LONG NAME    C\nwürde  x\n1      \\u{1b}\\u{a}  2\n");
    }
}
