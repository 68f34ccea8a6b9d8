//! The prefixes of dates, numbers and quantities, such as `ge`.

/// The comparison of a value in a resource with the one in the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Equal within the written precision. The default without a prefix.
    Eq,
    /// Different within the written precision.
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
    /// The nine prefixes.
    const ALL: [Self; 9] = [Self::Eq, Self::Ne, Self::Gt, Self::Lt, Self::Ge, Self::Le, Self::Sa, Self::Eb, Self::Ap];

    /// Returns the text of the prefix.
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

    /// Splits a value into its prefix and the rest. A value without a prefix has [`Self::Eq`].
    pub(super) fn split(text: &str) -> (Self, &str) {
        let prefix = Self::ALL.into_iter().find_map(|prefix| Some((prefix, text.strip_prefix(prefix.as_str())?)));
        prefix.unwrap_or((Self::Eq, text))
    }
}
