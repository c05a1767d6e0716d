//! Any octets as the data of any type: no panic, canonical form is stable, and text reads back as the same data.
#![no_main]

use bindy_zone::{Name, Rdata, Rtype};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (number, octets) = input;
    // Mostly the types that have a grammar.
    let rtype = Rtype::from_int(if number < 0xF000 { number % 270 } else { number });
    if let Ok(data) = Rdata::from_wire(rtype, octets) {
        assert_eq!(Rdata::from_wire(rtype, data.as_wire()).as_ref(), Ok(&data));
        let text = data.display(rtype).to_string();
        assert_eq!(Rdata::parse(rtype, &text, &Name::root()).as_ref(), Ok(&data), "{rtype} {text}");
    }
    if let Ok(text) = std::str::from_utf8(octets)
        && let Ok(data) = Rdata::parse(rtype, text, &Name::root())
    {
        assert_eq!(Rdata::from_wire(rtype, data.as_wire()).as_ref(), Ok(&data), "{rtype} {text}");
    }
});
