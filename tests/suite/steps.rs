//! Optimizers and schedules against the recorded steps.

use burn::module::Param;
use models::neck::FcNeck;
use native_trainer::optimizer::{Optimizer, OptimizerConfig, ParameterRules};
use native_trainer::schedule::{Decay, Plateau, PlateauOptions, Schedule};
use tests::{Case, assert_close, cases, device, values};

use crate::OPERATOR;

/// Rate, decay and the like behind a recorded name such as `Adam_lr0.01_l2_0.05`.
fn rule_of(name: &str) -> Option<(OptimizerConfig, f64, ParameterRules)> {
    let number = |key: &str| {
        let rest = name.split(key).nth(1)?;
        rest.split('_').next()?.parse::<f64>().ok()
    };
    let rate = number("_lr");
    let multiplied = name.contains("lr_mult");
    // The case with a multiplier names neither rate nor decay; its first step shows both.
    let weight_decay =
        number("_l2_").or_else(|| number("_wd")).unwrap_or(if multiplied { 0.01 } else { 0.0 });
    let mut rules = ParameterRules { decay_vectors: true, ..ParameterRules::default() };
    let nesterov = name.to_lowercase().contains("nesterov");
    let config = match name.split('_').next()? {
        "Momentum" => OptimizerConfig::Momentum { momentum: 0.9, weight_decay, nesterov },
        "SGD" => OptimizerConfig::Sgd { weight_decay },
        "Adam" => OptimizerConfig::Adam { weight_decay },
        "AdamW" => OptimizerConfig::AdamW { weight_decay },
        "RMSProp" => {
            OptimizerConfig::RmsProp { rho: 0.95, momentum: 0.9, epsilon: 1e-6, weight_decay }
        }
        _ => return None,
    };
    if let Some(factor) = number("lr_mult_") {
        rules.rate_multipliers.insert("bias".to_owned(), factor);
    }
    Some((config, rate.filter(|_| !multiplied).unwrap_or(0.1), rules))
}

#[test]
fn optimizers_equal_the_reference() {
    for case in cases("optimizers.json", &[""]) {
        let Some((config, rate, rules)) = rule_of(&case.name) else {
            println!("{}: a rule that is not here", case.name);
            continue;
        };
        let device = device().autodiff();
        let (weight, bias) = (case.input("weight"), case.input("bias"));
        let mut module = FcNeck::new(weight.shape[0], weight.shape[1], &device);
        module.weight = Param::from_tensor(weight.tensor::<2>(&device));
        module.bias = Param::from_tensor(bias.tensor::<1>(&device));
        let x = case.input("x").tensor::<2>(&device);
        let y = case.input("y").tensor::<2>(&device);
        let mut optimizer = Optimizer::new(config).with_rules(rules);
        for (step, expected) in
            case.value["outputs"]["steps"].as_array().expect("steps").iter().enumerate()
        {
            let loss = (module.forward(x.clone()) - y.clone()).powi_scalar(2).mean();
            module = optimizer.step(module, &loss.backward(), rate);
            let expect = |key: &str| tests::Array::new(&expected[key]).values;
            let what = format!("{} after step {step}", case.name);
            assert_close(&what, &values(module.weight.val()), &expect("weight"), OPERATOR);
            assert_close(&what, &values(module.bias.val()), &expect("bias"), OPERATOR);
        }
    }
}

/// The recorded schedule and whether its rates are those of epochs; `None` for one that is not here.
fn schedule_of(params: &serde_json::Value, steps: usize) -> Option<(Schedule, bool)> {
    let number = |key: &str| params[key].as_f64();
    let list = |key: &str| -> Vec<f64> {
        let values = params[key].as_array().into_iter().flatten();
        values.map(|v| v.as_f64().expect("a number")).collect()
    };
    let epochs_of = |key: &str| list(key).iter().map(|v| *v as usize).collect::<Vec<_>>();
    let plain = plain(params);
    let gamma = number("gamma").unwrap_or(0.1);
    let schedule = match params["cls"].as_str() {
        Some("Cosine") => plain,
        Some("MultiStepDecay") => {
            let milestones = epochs_of("milestones");
            Schedule { decay: Decay::MultiStep { milestones, gamma }, ..plain }
        }
        Some("Step") => {
            let epochs = number("step_size").expect("a size") as usize;
            Schedule { decay: Decay::Step { epochs, gamma }, ..plain }
        }
        Some("ConstLR") => Schedule { decay: Decay::Constant, ..plain },
        Some("Linear") => {
            let end = number("end_lr").unwrap_or(0.0);
            Schedule { decay: Decay::Linear { end }, ..plain }
        }
        // A learning rate beside the list makes the reference forget the list.
        Some("Piecewise") if number("learning_rate").is_some() => {
            Schedule { decay: Decay::Step { epochs: 30, gamma: 0.1 }, ..plain }
        }
        Some("Piecewise") => {
            let rates = list("values");
            let by_epoch = params["by_epoch"].as_bool() == Some(true);
            let schedule = Schedule {
                learning_rate: rates[0],
                warmup_start: number("warmup_start_lr").unwrap_or(0.0),
                by_epoch,
                decay: Decay::Piecewise { epochs: epochs_of("decay_epochs"), rates },
                ..plain
            };
            return Some((schedule, by_epoch));
        }
        None if number("warmup_steps").is_some() => Schedule {
            warmup_epochs: number("warmup_steps").expect("steps") / steps as f64,
            warmup_start: plain.learning_rate * number("start_factor").unwrap_or(0.0),
            ..plain
        },
        _ => return None,
    };
    Some((schedule, false))
}

/// What all schedules have: a rate and a warm-up.
fn plain(params: &serde_json::Value) -> Schedule {
    let number = |key: &str| params[key].as_f64();
    Schedule::cosine(
        number("learning_rate").or(number("base_lr")).unwrap_or(0.0),
        number("warmup_epoch").unwrap_or(0.0),
    )
}

/// The rates that follow from recorded figures, one more than there are figures.
fn rates_by_figures(case: &Case) -> Vec<f32> {
    let params = &case.value["params"];
    let number = |key: &str| params[key].as_f64();
    let options = PlateauOptions {
        factor: number("factor").expect("a factor"),
        patience: number("patience").expect("a patience") as usize,
        threshold: number("threshold").expect("a threshold"),
        cooldown: number("cooldown").unwrap_or(0.0) as usize,
        min_rate: number("min_lr").unwrap_or(0.0),
    };
    let mut plateau = Plateau::new(options, plain(params).learning_rate);
    let mut rates = vec![plateau.rate() as f32];
    for figure in case.value["inputs"]["metrics"].as_array().expect("figures") {
        plateau.observe(figure.as_f64().expect("a figure"));
        rates.push(plateau.rate() as f32);
    }
    rates
}

#[test]
fn schedules_equal_the_reference() {
    let mut compared = 0;
    for case in cases("lr_schedules.json", &[""]) {
        let params = &case.value["params"];
        let number = |key: &str| params[key].as_f64();
        let mut expected = case.output("lr_per_step").values;
        let class = params["cls"].as_str();
        if class == Some("ReduceOnPlateau") {
            assert_close(&case.name, &rates_by_figures(&case), &expected, OPERATOR);
            compared += 1;
            continue;
        }
        let steps =
            number("step_each_epoch").or(number("steps_per_epoch")).expect("steps") as usize;
        let Some((schedule, by_epoch)) = schedule_of(params, steps) else {
            println!("{}: a schedule that is not here ({class:?})", case.name);
            continue;
        };
        let epochs = number("epochs").or(number("max_epochs")).expect("epochs") as usize;
        let stride = if by_epoch { steps } else { 1 };
        if !by_epoch {
            // A step within the warm-up has the rate that it ends with, which the reference's next one begins with.
            let rising = (schedule.warmup_epochs * steps as f64).ceil() as usize;
            let next = expected.clone();
            expected.iter_mut().zip(next.iter().skip(1)).take(rising).for_each(|(e, n)| *e = *n);
        }
        let got: Vec<f32> =
            (0..expected.len()).map(|i| schedule.rate(i * stride, steps, epochs) as f32).collect();
        assert_close(&case.name, &got, &expected, OPERATOR);
        compared += 1;
    }
    assert!(compared >= 9 || std::env::var_os("GOLDEN_DIR").is_some(), "{compared}");
}
