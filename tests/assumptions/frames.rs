//! Frames that are inside when their assumption falls.

use std::sync::Mutex;

use inkpot::inkwell::AddressSpace;
use inkpot::{Assumption, BoxError, Cache, Frontend, Unit};

/// The method calls the host twice, and returns for each time whether its assumption held afterwards.
struct Watches(Assumption);

impl Frontend for Watches {
    type Key = ();

    fn emit<'ctx>(&self, _: &(), unit: &mut Unit<'_, 'ctx, ()>) -> Result<(), BoxError> {
        let assumed = unit.assume(&self.0);
        assert_eq!(assumed.value(), self.0.version());
        let context = unit.context();
        let (long, pointer) = (
            context.i64_type(),
            context.ptr_type(AddressSpace::default()),
        );
        let host_type = context.void_type().fn_type(&[pointer.into()], false);
        let host = unit.import("let_fall", host_type);
        let function = unit.define(long.fn_type(&[pointer.into()], false));
        let build = context.create_builder();
        build.position_at_end(context.append_basic_block(function, "entry"));
        let x = function.get_first_param().ok_or("x")?;
        let mut result = long.const_zero();
        for bit in 0..3 {
            let holds = unit.holds(&build, &assumed)?;
            let holds = build.build_int_z_extend(holds, long, "")?;
            let bit_of = build.build_left_shift(holds, long.const_int(bit, false), "")?;
            result = build.build_or(result, bit_of, "")?;
            build.build_call(host, &[x.into()], "")?;
        }
        build.build_return(Some(&result))?;
        Ok(())
    }
}

/// What happens at each call of the host.
type Plan = Mutex<Vec<Option<Assumption>>>;

unsafe extern "C" fn let_fall(plan: *const Plan) {
    // SAFETY: the test passes its plan to the method.
    let next = unsafe { &*plan }.lock().unwrap().pop().flatten();
    if let Some(falls) = next {
        drop(falls.invalidate());
    }
}

#[test]
fn a_frame_sees_that_its_assumption_has_fallen() {
    for level in [inkpot::OptLevel::O0, inkpot::OptLevel::O2] {
        let group = Assumption::new();
        let a = group.member();
        let cache = Cache::builder(Watches(a.clone()))
            .opt_level(level)
            .import("let_fall", let_fall as *const ())
            .build()
            .unwrap();
        let me = cache.participant("test");
        // SAFETY: the front end gives its method this type.
        let method = unsafe { cache.method::<unsafe extern "C" fn(*const Plan) -> u64>(&()) };
        let method = method.unwrap();
        // The bits are set while it holds: the first is looked at before the first call.
        let other = Assumption::new();
        let cases = [
            (vec![None, None, None], 0b111),
            (vec![None, None, Some(other)], 0b111),
            (vec![None, None, Some(a.clone())], 0b001),
            (vec![None, Some(a.clone()), None], 0b011),
            (vec![None, Some(group.clone()), None], 0b011),
            (vec![None, None, Some(group.clone())], 0b001),
        ];
        for (plan, expected) in cases {
            let before = a.version();
            let plan = Mutex::new(plan);
            let mut guard = me.pin();
            let entry = method.get(&mut guard).unwrap();
            // SAFETY: the plan outlives the call.
            let bits = unsafe { entry.call(&plan) };
            assert_eq!(bits, expected, "at {level:?}");
            assert_eq!(a.version() > before, expected != 0b111);
            assert_eq!(cache.is_resident(&()), expected == 0b111);
        }
    }
}
