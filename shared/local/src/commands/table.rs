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

/// Returns the width of the terminal on standard output, or `None` if it is no terminal.
pub(crate) fn terminal_columns() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
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
    fn columns_are_aligned_and_cells_are_escaped() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let table = format_table(&[row(["A", "LONG NAME", "C"]), row(["würde", "x", ""]), row(["1", "\u{1b}\n", "2"])]);
        assert_eq!(table, "A      LONG NAME    C\nwürde  x\n1      \\u{1b}\\u{a}  2\n");
    }
}
