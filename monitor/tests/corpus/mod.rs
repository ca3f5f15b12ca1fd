//! What the fuzzers found worth keeping, an input a line in hexadecimal; and every bug that they find.

/// Runs a fuzz target's body on each input of a corpus.
pub(crate) fn replay(corpus: &str, body: impl Fn(&[u8])) {
    let byte = |digits: &[u8]| {
        let digits = str::from_utf8(digits).expect("ASCII");
        u8::from_str_radix(digits, 16).expect("hexadecimal digits")
    };
    for line in corpus.lines() {
        let input: Vec<u8> = line.as_bytes().chunks(2).map(byte).collect();
        body(&input);
    }
    assert!(corpus.lines().count() > 100, "hardly anything is kept");
}
