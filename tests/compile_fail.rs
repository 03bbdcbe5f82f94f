//! What the compiler must refuse: an entry without the guard that it was loaded under.

#[test]
fn entries_are_bound_to_their_guards() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
