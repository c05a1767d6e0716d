//! Names from octets and from text: what is accepted survives both forms.
#![no_main]

use bindy_zone::Name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok((name, rest)) = Name::split_wire(octets) {
        assert_eq!(name.to_wire().len() + rest.len(), octets.len());
        assert_eq!(Name::parse(&name.to_string()), Ok(name));
    }
    if let Ok(text) = std::str::from_utf8(octets)
        && let Ok(name) = Name::parse(text)
    {
        assert_eq!(Name::from_wire(&name.to_wire()), Ok(name.clone()));
        assert_eq!(Name::parse(&name.to_string()), Ok(name));
    }
});
