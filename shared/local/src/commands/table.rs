//! Text tables for terminals.

/// Formats rows as lines with aligned columns. Control characters are replaced, so that cells cannot send terminal commands.
pub(crate) fn format_table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let without_controls =
        |cell: &String| cell.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect::<String>();
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{:width$}", without_controls(cell))).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_are_replaced() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let table = format_table(&[row(["A", "LONG NAME", "C"]), row(["würde", "x", ""]), row(["1", "\u{1b}[31m", "2"])]);
        assert_eq!(table, "A      LONG NAME  C\nwürde  x\n1      \u{fffd}[31m      2\n");
    }
}
