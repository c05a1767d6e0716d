//! Any octets on the port: a request whose name reads back, or a refusal; never a panic.
#![no_main]

use bindy_zone::Name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok(request) = bindy_wire::parse_request(octets) {
        assert_eq!(Name::from_wire(&request.name.to_wire()), Ok(request.name));
    }
});
