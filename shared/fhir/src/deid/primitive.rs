//! The properties of a primitive element that decide how a method changes its value.

/// Context of a primitive element (type and role), without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PrimitiveContext {
    /// The FHIR type, such as `dateTime`.
    pub(super) type_name: &'static str,
    pub(super) role: PrimitiveRole,
}

/// The roles of primitive elements that methods treat differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PrimitiveRole {
    Date,
    /// A dateTime or an instant.
    DateTime,
    /// `Age.value`
    AgeValue,
    PostalCode,
    /// `Reference.reference`
    Reference,
    /// The address of a resource in a Bundle, such as `Bundle.entry.fullUrl`.
    BundleAddress,
    /// The search of a conditional request in a Bundle: `Bundle.entry.request.ifNoneExist`.
    BundleSearch,
    /// A uri, url, uuid or canonical that can be the address of a resource, and an id in an extension.
    Address,
    /// The `id` of a primitive element, such as that in `_birthDate`. It is a text of any content.
    ElementId,
    Other,
}

/// The JSON form of a primitive type's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonForm {
    String,
    Number,
    Boolean,
}

impl PrimitiveContext {
    /// Creates the context of an element from its type, its name and the type of its parent element.
    pub(super) fn new(type_name: &'static str, element: &str, parent_type: &str) -> Self {
        let role = match (type_name, element, parent_type) {
            ("date", ..) => PrimitiveRole::Date,
            ("dateTime" | "instant", ..) => PrimitiveRole::DateTime,
            ("decimal", _, "Age") => PrimitiveRole::AgeValue,
            (_, name, _) if name.eq_ignore_ascii_case("postalCode") => PrimitiveRole::PostalCode,
            (_, "reference", "Reference") => PrimitiveRole::Reference,
            ("uri", "fullUrl" | "url" | "location", "BackboneElement") => PrimitiveRole::BundleAddress,
            ("string", "ifNoneExist", "BackboneElement") => PrimitiveRole::BundleSearch,
            // These name code systems, definitions and policies, and are frequent.
            ("uri", "system" | "implicitRules" | "policy" | "instantiatesUri", _)
            | ("canonical", "instantiatesCanonical", _)
            | ("uri", "url", "Extension")
            | ("uri", "type", "Reference")
            | ("canonical", "profile", "Meta") => PrimitiveRole::Other,
            // It names an element of a definition.
            ("uri", "contentReference", "ElementDefinition") => PrimitiveRole::Other,
            ("uri" | "url" | "canonical" | "uuid", ..) | ("id", "value", "Extension") => PrimitiveRole::Address,
            // Only the names of primitive types begin with a lower-case letter.
            (_, "id", _) if parent_type.starts_with(|first: char| first.is_ascii_lowercase()) => PrimitiveRole::ElementId,
            _ => PrimitiveRole::Other,
        };
        Self { type_name, role }
    }

    /// Returns the JSON form of the type's values.
    pub(super) fn json_form(self) -> JsonForm {
        match self.type_name {
            "boolean" => JsonForm::Boolean,
            "decimal" | "integer" | "positiveInt" | "unsignedInt" => JsonForm::Number,
            _ => JsonForm::String,
        }
    }

    /// Returns true if the element is a date, a dateTime or an instant.
    pub(super) fn is_date(self) -> bool {
        matches!(self.role, PrimitiveRole::Date | PrimitiveRole::DateTime)
    }

    /// Returns true if the element can be the address of a resource.
    pub(super) fn can_be_address(self) -> bool {
        matches!(self.role, PrimitiveRole::Address | PrimitiveRole::BundleAddress)
    }

    /// Returns true if the element can name a resource: in a reference, in an address, or by an id in an extension.
    pub(super) fn can_name_resource(self) -> bool {
        self.role == PrimitiveRole::Reference || self.can_be_address()
    }

    /// Returns true if each value of an element that can name a resource names one: a reference, or an id. An address is told by its text.
    pub(super) fn always_names_resource(self) -> bool {
        self.role == PrimitiveRole::Reference || self.type_name == "id"
    }

    /// Returns true if `perturb` can add noise to the element.
    pub(super) fn is_number(self) -> bool {
        self.json_form() == JsonForm::Number
    }
}

/// Returns true for Quantity and similar types: `perturb` changes their `value` and leaves their other members unchanged.
pub(super) fn is_quantity_type(type_name: &str) -> bool {
    matches!(type_name, "Age" | "Count" | "Distance" | "Duration" | "Money" | "Quantity" | "SimpleQuantity" | "MoneyQuantity")
}
