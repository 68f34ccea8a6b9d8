//! `ge` and its kin before dates, numbers and quantities.

/// How a value in a resource is compared with the one in the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Equal within the precision that is written; no prefix means it too.
    Eq,
    /// Not equal so.
    Ne,
    /// Greater.
    Gt,
    /// Less.
    Lt,
    /// Greater or equal.
    Ge,
    /// Less or equal.
    Le,
    /// Starts after.
    Sa,
    /// Ends before.
    Eb,
    /// Approximately.
    Ap,
}

impl Prefix {
    const ALL: [Self; 9] = [Self::Eq, Self::Ne, Self::Gt, Self::Lt, Self::Ge, Self::Le, Self::Sa, Self::Eb, Self::Ap];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Gt => "gt",
            Self::Lt => "lt",
            Self::Ge => "ge",
            Self::Le => "le",
            Self::Sa => "sa",
            Self::Eb => "eb",
            Self::Ap => "ap",
        }
    }

    /// The prefix of a value and what stands behind it.
    pub(super) fn split(text: &str) -> (Self, &str) {
        let found = Self::ALL.into_iter().find_map(|prefix| Some((prefix, text.strip_prefix(prefix.as_str())?)));
        found.unwrap_or((Self::Eq, text))
    }
}
