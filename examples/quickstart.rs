//! A method for each exponent: `x` to the power `n`, compiled when it is first asked for.

use inkpot::{BoxError, Cache, Frontend, Unit};

struct Powers;

impl Frontend for Powers {
    type Key = u32; // the exponent

    fn emit<'ctx>(&self, n: &u32, unit: &mut Unit<'_, 'ctx, u32>) -> Result<(), BoxError> {
        let long = unit.context().i64_type();
        let function = unit.define(long.fn_type(&[long.into()], false));
        let build = unit.context().create_builder();
        build.position_at_end(unit.context().append_basic_block(function, "entry"));
        let x = function.get_first_param().ok_or("x")?.into_int_value();
        let mut power = long.const_int(1, false);
        for _ in 0..*n {
            power = build.build_int_mul(power, x, "")?;
        }
        build.build_return(Some(&power))?;
        Ok(())
    }
}

fn main() -> Result<(), BoxError> {
    let cache = Cache::builder(Powers).budget(16 << 20).build()?;
    let me = cache.participant("main"); // once a thread
    let mut guard = me.pin(); // entries can be called while it lives
    // SAFETY: the front end gives every method this type.
    let cube = unsafe { cache.method::<unsafe extern "C" fn(i64) -> i64>(&3) }?;
    let entry = cube.get(&mut guard)?; // compiles, if it is not resident
    // SAFETY: the method takes any number.
    let result = unsafe { entry.call(5) };
    println!("5 to the power 3 is {result}");
    Ok(())
}
