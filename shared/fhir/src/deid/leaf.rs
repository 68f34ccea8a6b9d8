//! What methods have to know of a primitive element, but for its value.

/// A primitive, as methods tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leaf {
    /// Its FHIR type: `dateTime`.
    pub(super) type_name: &'static str,
    pub(super) role: Role,
}

/// What a primitive is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Date,
    /// A dateTime or an instant.
    DateTime,
    /// The number of an Age.
    Age,
    PostalCode,
    /// `Reference.reference`
    Reference,
    Other,
}

/// How JSON writes the values of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Number,
    Bool,
}

impl Leaf {
    /// A primitive of this type and name in an element of that type.
    pub(super) fn of(type_name: &'static str, element: &str, parent: &str) -> Self {
        let role = match (type_name, element, parent) {
            ("date", ..) => Role::Date,
            ("dateTime" | "instant", ..) => Role::DateTime,
            ("decimal", _, "Age") => Role::Age,
            (_, name, _) if name.eq_ignore_ascii_case("postalCode") => Role::PostalCode,
            (_, "reference", "Reference") => Role::Reference,
            _ => Role::Other,
        };
        Self { type_name, role }
    }

    pub(super) fn form(self) -> Form {
        match self.type_name {
            "boolean" => Form::Bool,
            "decimal" | "integer" | "positiveInt" | "unsignedInt" => Form::Number,
            _ => Form::Text,
        }
    }

    pub(super) fn is_date(self) -> bool {
        matches!(self.role, Role::Date | Role::DateTime)
    }

    /// Whether noise can be added to it.
    pub(super) fn is_number(self) -> bool {
        self.form() == Form::Number
    }
}

/// The types whose `value` noise is added to as a whole: nothing else below them is touched then.
pub(super) fn is_quantity(type_name: &str) -> bool {
    matches!(type_name, "Age" | "Count" | "Distance" | "Duration" | "Money" | "Quantity" | "SimpleQuantity" | "MoneyQuantity")
}
