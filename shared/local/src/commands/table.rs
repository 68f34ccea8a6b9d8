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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_are_escaped() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let table = format_table(&[row(["A", "LONG NAME", "C"]), row(["würde", "x", ""]), row(["1", "\u{1b}\n", "2"])]);
        assert_eq!(table, "A      LONG NAME    C\nwürde  x\n1      \\u{1b}\\u{a}  2\n");
    }
}
