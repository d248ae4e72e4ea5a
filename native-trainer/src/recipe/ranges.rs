//! The numbers of a recipe and what each may be: one table.

mod changes;

use models::detector::SIZE_MULTIPLE;
use models::limits::{LimitError, MAX_SIDE, within};
use models::preprocess::Fit;

use super::{DetectorTask, ExtractorTask, Recipe, Task};
use crate::data::sampler::SamplerConfig;
use crate::ema::EmaDecay;
use crate::head::HeadConfig;
use crate::loss::{CrossBatchLoss, LossKind, TripletAngularMargin};
use crate::optimizer::OptimizerConfig;
use crate::schedule::{Decay, PlateauOptions, Schedule};

/// What a number may be.
#[derive(Debug, Clone, Copy)]
enum May {
    /// A count of at least one.
    Count,
    /// Any finite number.
    Finite,
    /// Above zero.
    Positive,
    /// Zero or more.
    NotNegative,
    /// From 0 to 1.
    Share,
    /// From 0 to 1, which is out.
    BelowOne,
    /// From the first to the second.
    From(f64, f64),
}

/// Counts that memory is taken for.
const MOST: f64 = 1e9;

impl May {
    fn allows(self, value: f64) -> bool {
        match self {
            Self::Count => (1.0..=MOST).contains(&value),
            Self::Finite => value.is_finite(),
            Self::Positive => value > 0.0 && value.is_finite(),
            Self::NotNegative => value >= 0.0 && value.is_finite(),
            Self::Share => (0.0..=1.0).contains(&value),
            Self::BelowOne => (0.0..1.0).contains(&value),
            Self::From(low, high) => (low..=high).contains(&value),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Count => format!("it may be from 1 to {MOST}"),
            Self::Finite => "it must be a finite number".to_owned(),
            Self::Positive => "it must be above 0 and finite".to_owned(),
            Self::NotNegative => "it must be 0 or more and finite".to_owned(),
            Self::Share => "it may be from 0 to 1".to_owned(),
            Self::BelowOne => "it may be from 0 to below 1".to_owned(),
            Self::From(low, high) => format!("it may be from {low} to {high}"),
        }
    }
}

/// Numbers of every type that a recipe has.
trait Number: Copy {
    fn number(self) -> f64;
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
}

impl Number for f32 {
    /// As it is written, not as it is rounded.
    fn number(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::from(self))
    }
}

impl Number for usize {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for u32 {
    fn number(self) -> f64 {
        f64::from(self)
    }
}

/// Values by their keys under a common one.
struct Table(Vec<(String, f64, May)>);

impl Table {
    fn row(&mut self, key: impl Into<String>, value: impl Number, may: May) {
        self.0.push((key.into(), value.number(), may));
    }

    fn rows<N: Number>(&mut self, under: &str, rows: &[(&str, N, May)]) {
        for (key, value, may) in rows {
            let dot = if under.is_empty() { "" } else { "." };
            self.row(format!("{under}{dot}{key}"), *value, *may);
        }
    }

    /// A count that may be absent.
    fn count<N: Number>(&mut self, key: &str, value: Option<N>) {
        if let Some(value) = value {
            self.row(key, value, May::Count);
        }
    }

    /// The first value that is not what it may be.
    fn check(self) -> Result<(), LimitError> {
        match self.0.into_iter().find(|(_, value, may)| !may.allows(*value)) {
            Some((key, value, may)) => Err(LimitError::new(&key, value, may.text())),
            None => Ok(()),
        }
    }
}

impl Recipe {
    /// Whether every number is one that training can be done with.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the key, the value and what may be given.
    pub fn check_ranges(&self) -> Result<(), LimitError> {
        let mut table = Table(Vec::new());
        table.rows(
            "",
            &[
                ("epochs", self.epochs, May::Count),
                ("batch_size", self.batch_size, May::From(1.0, 1e6)),
                ("eval_interval", self.eval_interval, May::Count),
                ("log_interval", self.log_interval, May::Count),
                ("accumulate", self.accumulate, May::Count),
            ],
        );
        table.count("epoch_samples", self.epoch_samples);
        table.count("save_interval", self.save_interval);
        table.count("checkpoint_interval", self.checkpoint_interval);
        table.count("early_stopping", self.early_stopping);
        schedule(&mut table, &self.schedule);
        optimizer(&mut table, &self.optimizer);
        for (prefix, factor) in &self.parameters.rate_multipliers {
            table.row(format!("parameters.rate_multipliers.{prefix}"), *factor, May::NotNegative);
        }
        if let Some(ema) = &self.ema {
            let (EmaDecay::Constant { decay }
            | EmaDecay::Threshold { decay }
            | EmaDecay::Exponential { decay }) = ema.decay;
            table.row("ema.decay.decay", decay, May::BelowOne);
            table.count("ema.cycle", ema.cycle);
        }
        match &self.task {
            Task::Extractor(task) => extractor(&mut table, task),
            Task::Detector(task) => detector(&mut table, task),
        }
        table.check()?;
        lists(&self.schedule)?;
        self.check_networks()
    }

    /// What `models` says of networks and their inputs.
    fn check_networks(&self) -> Result<(), LimitError> {
        let preprocess = |error: LimitError| error.under("preprocess");
        self.preprocess.check().map_err(preprocess)?;
        if self.preprocess.fit != Fit::Stretched {
            let allowed =
                "training stretches pictures: leave it out; only detectors of ONNX files have it";
            return Err(preprocess(LimitError::new("fit", "letterbox", allowed)));
        }
        match &self.task {
            Task::Extractor(task) => {
                task.check_network().map_err(|error| error.under("extractor"))?;
                task.model.check_input(&self.preprocess)
            }
            Task::Detector(task) => {
                models::detector::DetectorConfig::check_input(&self.preprocess)
                    .map_err(preprocess)?;
                task.check_network().map_err(|error| error.under("detector"))
            }
        }
    }
}

impl ExtractorTask {
    fn check_network(&self) -> Result<(), LimitError> {
        self.model.check().map_err(|error| error.under("model"))?;
        self.augmentation.check().map_err(|error| error.under("augmentation"))?;
        let mut operators = self.operators.iter();
        operators
            .try_for_each(|operator| operator.check().map_err(|error| error.under("operators")))
    }
}

impl DetectorTask {
    fn check_network(&self) -> Result<(), LimitError> {
        self.model.check().map_err(|error| error.under("model"))?;
        for side in &self.sizes {
            within("sizes", *side, &(SIZE_MULTIPLE..=MAX_SIDE))?;
            if !side.is_multiple_of(SIZE_MULTIPLE) {
                let allowed = format!("they are multiples of {SIZE_MULTIPLE}");
                return Err(LimitError::new("sizes", side, allowed));
            }
        }
        self.augmentation.check().map_err(|error| error.under("augmentation"))?;
        self.scenes.check().map_err(|error| error.under("scenes"))
    }
}

fn schedule(table: &mut Table, schedule: &Schedule) {
    table.rows(
        "schedule",
        &[
            ("learning_rate", schedule.learning_rate, May::Positive),
            ("warmup_epochs", schedule.warmup_epochs, May::NotNegative),
            ("warmup_start", schedule.warmup_start, May::NotNegative),
        ],
    );
    let under = "schedule.decay";
    match &schedule.decay {
        Decay::Cosine { end } | Decay::Linear { end } => {
            table.rows(under, &[("end", *end, May::NotNegative)]);
        }
        Decay::MultiStep { gamma, .. } => table.rows(under, &[("gamma", *gamma, May::Positive)]),
        Decay::Piecewise { rates, .. } => {
            rates.iter().for_each(|rate| table.rows(under, &[("rates", *rate, May::NotNegative)]));
        }
        Decay::Step { epochs, gamma } => {
            table.rows(under, &[("epochs", *epochs, May::Count)]);
            table.rows(under, &[("gamma", *gamma, May::Positive)]);
        }
        Decay::Constant => {}
        Decay::ReduceOnPlateau(options) => {
            let PlateauOptions { factor, threshold, min_rate, .. } = *options;
            table.rows(
                under,
                &[
                    ("factor", factor, May::BelowOne),
                    ("threshold", threshold, May::NotNegative),
                    ("min_rate", min_rate, May::NotNegative),
                ],
            );
        }
    }
}

/// Lists of a schedule that belong together.
fn lists(schedule: &Schedule) -> Result<(), LimitError> {
    let rises = |epochs: &[usize]| epochs.windows(2).all(|pair| pair[0] < pair[1]);
    let text = |epochs: &[usize]| format!("{epochs:?}");
    match &schedule.decay {
        Decay::MultiStep { milestones, .. } if !rises(milestones) => {
            let key = "schedule.decay.milestones";
            Err(LimitError::new(key, text(milestones), "each must be above the one before"))
        }
        Decay::Piecewise { epochs, .. } if !rises(epochs) => {
            let key = "schedule.decay.epochs";
            Err(LimitError::new(key, text(epochs), "each must be above the one before"))
        }
        Decay::Piecewise { epochs, rates } if rates.len() != epochs.len() + 1 => {
            let allowed = "there must be one more than of schedule.decay.epochs";
            Err(LimitError::new("schedule.decay.rates", format!("{rates:?}"), allowed))
        }
        _ => Ok(()),
    }
}

fn optimizer(table: &mut Table, config: &OptimizerConfig) {
    let mut rows: Vec<(&str, f64, May)> = Vec::new();
    match *config {
        OptimizerConfig::Momentum { momentum, weight_decay, .. } => {
            rows.push(("momentum", momentum, May::BelowOne));
            rows.push(("weight_decay", weight_decay, May::NotNegative));
        }
        OptimizerConfig::Sgd { weight_decay }
        | OptimizerConfig::Adam { weight_decay }
        | OptimizerConfig::AdamW { weight_decay } => {
            rows.push(("weight_decay", weight_decay, May::NotNegative));
        }
        OptimizerConfig::RmsProp { rho, momentum, epsilon, weight_decay } => {
            rows.push(("rho", rho, May::BelowOne));
            rows.push(("momentum", momentum, May::BelowOne));
            rows.push(("epsilon", epsilon, May::Positive));
            rows.push(("weight_decay", weight_decay, May::NotNegative));
        }
    }
    table.rows("optimizer", &rows);
}

fn extractor(table: &mut Table, task: &ExtractorTask) {
    table.row("extractor.hold_out", task.hold_out, May::From(0.0, 0.9));
    // A share of zero has no class at all.
    table.row("extractor.head_share", task.head_share, May::Positive);
    table.row("extractor.head_share", task.head_share, May::Share);
    if let Some(side) = task.teacher.as_ref().and_then(|teacher| teacher.side) {
        table.row("extractor.teacher.side", side, May::From(1.0, f64::from(MAX_SIDE)));
    }
    head(table, &task.head);
    for term in &task.losses {
        table.row("extractor.losses.weight", term.weight, May::NotNegative);
        loss(table, &term.loss);
    }
    let under = "extractor.sampler";
    match &task.sampler {
        SamplerConfig::Shuffle => {}
        SamplerConfig::Pk { samples_per_class, boosts, .. } => {
            table.rows(under, &[("samples_per_class", *samples_per_class, May::Count)]);
            for boost in boosts {
                table.rows(under, &[("boosts.ratio", boost.ratio, May::NotNegative)]);
            }
        }
        SamplerConfig::RandomIdentity { samples_per_class, max_iterations } => {
            table.rows(under, &[("samples_per_class", *samples_per_class, May::Count)]);
            table.count("extractor.sampler.max_iterations", *max_iterations);
        }
    }
}

fn head(table: &mut Table, head: &HeadConfig) {
    let (margin, scale) = match *head {
        HeadConfig::Fc { .. } => return,
        HeadConfig::ArcMargin { margin, scale, .. }
        | HeadConfig::CosMargin { margin, scale }
        | HeadConfig::CircleMargin { margin, scale } => (margin, scale),
        HeadConfig::AdaMargin { margin, scale, slope, momentum } => {
            table.row("extractor.head.slope", slope, May::Finite);
            table.row("extractor.head.momentum", momentum, May::Share);
            (margin, scale)
        }
    };
    table.row("extractor.head.margin", margin, May::From(0.0, std::f64::consts::PI));
    table.row("extractor.head.scale", scale, May::Positive);
}

fn loss(table: &mut Table, loss: &LossKind) {
    let mut row = |key: &str, value: f64, may: May| {
        table.row(format!("extractor.losses.{key}"), value, may);
    };
    let angular = |row: &mut dyn FnMut(&str, f64, May), loss: &TripletAngularMargin| {
        row("margin", loss.margin, May::NotNegative);
        if let Some(terms) = &loss.absolute {
            row("absolute.weight", terms.weight, May::NotNegative);
            row("absolute.positive", terms.positive, May::From(-1.0, 1.0));
            row("absolute.negative", terms.negative, May::From(-1.0, 1.0));
        }
    };
    match loss {
        LossKind::CrossEntropy { label_smoothing } => {
            row("label_smoothing", *label_smoothing, May::BelowOne);
        }
        LossKind::BatchHardTriplet(loss) => row("margin", loss.margin, May::NotNegative),
        LossKind::TripletAngularMargin(loss) => angular(&mut row, loss),
        LossKind::Contrastive(loss) => row("margin", loss.margin, May::From(-1.0, 1.0)),
        LossKind::SupervisedContrastive(loss) => {
            row("temperature", loss.temperature, May::Positive);
            row("base_temperature", loss.base_temperature.unwrap_or(1.0), May::Positive);
        }
        LossKind::PairwiseCosface(loss) => {
            row("margin", loss.margin, May::NotNegative);
            row("gamma", loss.gamma, May::Positive);
        }
        LossKind::NPairs(loss) => row("regularization", loss.regularization, May::NotNegative),
        LossKind::MarginSampleMining(loss) => {
            row("margin", loss.margin, May::NotNegative);
            row("samples_per_class", loss.samples_per_class as f64, May::Count);
        }
        LossKind::TriHard(loss) => {
            row("margin", loss.margin, May::NotNegative);
            row("samples_per_class", loss.samples_per_class as f64, May::Count);
        }
        LossKind::Eml(loss) => {
            row("threshold", loss.threshold, May::Finite);
            row("beta", loss.beta, May::Positive);
            row("samples_per_class", loss.samples_per_class as f64, May::Count);
        }
        LossKind::Center { learning_rate } => {
            row("learning_rate", *learning_rate, May::NotNegative);
        }
        LossKind::CrossBatch(config) => {
            row("size", config.size as f64, May::From(1.0, 1e8));
            row("bank_weight", config.bank_weight, May::NotNegative);
            match &config.loss {
                CrossBatchLoss::Contrastive(loss) => {
                    row("loss.margin", loss.margin, May::From(-1.0, 1.0));
                }
                CrossBatchLoss::TripletAngularMargin(loss) => angular(&mut row, loss),
            }
        }
        LossKind::Dshsd(loss) => row("alpha", loss.alpha, May::NotNegative),
        LossKind::Lcdsh(loss) => row("lambda", loss.lambda, May::NotNegative),
        LossKind::Dch(loss) => {
            row("gamma", loss.gamma, May::Positive);
            row("lambda", loss.lambda, May::NotNegative);
        }
        LossKind::TeacherCosine => {}
        LossKind::TeacherRelations { distances, angles } => {
            row("distances", *distances, May::NotNegative);
            row("angles", *angles, May::NotNegative);
        }
    }
}

fn detector(table: &mut Table, task: &DetectorTask) {
    table.row("detector.eval_scenes", task.eval_scenes, May::From(0.0, 1e6));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What a shipped recipe with one value changed is refused with.
    fn refused(recipe: &str, change: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let error = Recipe::read(&folder.join(recipe), &[change.to_owned()]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(recipe), "{change}: {error}");
        error
    }

    #[test]
    fn every_number_out_of_its_range_is_named() {
        for (change, told) in [
            ("schedule.learning_rate=-1", "schedule.learning_rate is -1; it must be above 0"),
            ("schedule.learning_rate=0", "schedule.learning_rate is 0; it must be above 0"),
            ("schedule.learning_rate=nan", "schedule.learning_rate is NaN"),
            ("schedule.learning_rate=inf", "schedule.learning_rate is inf"),
            ("schedule.warmup_epochs=-2", "schedule.warmup_epochs is -2"),
            ("schedule.decay={ kind = \"step\", epochs = 0, gamma = 0.1 }", "decay.epochs is 0"),
            (
                "schedule.decay={ kind = \"multi_step\", milestones = [5, 3], gamma = 0.1 }",
                "milestones is [5, 3]",
            ),
            (
                "schedule.decay={ kind = \"piecewise\", epochs = [5], rates = [0.1] }",
                "there must be one more than of schedule.decay.epochs",
            ),
            ("epochs=0", "epochs is 0; it may be from 1"),
            ("batch_size=0", "batch_size is 0; it may be from 1"),
            ("accumulate=0", "accumulate is 0"),
            ("save_interval=0", "save_interval is 0"),
            ("optimizer.momentum=1", "optimizer.momentum is 1; it may be from 0 to below 1"),
            ("optimizer.momentum=-0.1", "optimizer.momentum is -0.1"),
            ("optimizer.weight_decay=-1", "optimizer.weight_decay is -1"),
            ("parameters.rate_multipliers.x=-1", "parameters.rate_multipliers.x is -1"),
            ("ema.decay.decay=1", "ema.decay.decay is 1"),
            ("preprocess.width=0", "preprocess.width is 0; it may be from 1 to 2048"),
            ("preprocess.std=[0, 1, 1]", "preprocess.std is 0"),
            (
                "preprocess.fit={ letterbox = { padding = 114 } }",
                "preprocess.fit is letterbox; training stretches pictures",
            ),
            ("preprocess.mean=[0, nan, 1]", "preprocess.mean is NaN"),
            ("extractor.hold_out=1", "extractor.hold_out is 1"),
            ("extractor.head_share=0", "extractor.head_share is 0"),
            ("extractor.model.neck.embedding_dim=0", "model.neck.embedding_dim is 0"),
            ("extractor.head.margin=9", "extractor.head.margin is 9"),
            ("extractor.head.scale=0", "extractor.head.scale is 0"),
            ("extractor.sampler.samples_per_class=0", "samples_per_class is 0"),
            ("extractor.losses=[{ kind = \"cross_entropy\", weight = -1 }]", "losses.weight is -1"),
            (
                "extractor.losses=[{ kind = \"cross_entropy\", label_smoothing = 1 }]",
                "losses.label_smoothing is 1",
            ),
            (
                "extractor.losses=[{ kind = \"supervised_contrastive\", temperature = 0 }]",
                "losses.temperature is 0",
            ),
            ("extractor.operators=[{ kind = \"flip\", probability = 2 }]", "probability is 2"),
            ("extractor.operators=[{ kind = \"random_crop\", side = 0 }]", "operators.side is 0"),
            ("extractor.augmentation.flip=-1", "extractor.augmentation.flip is -1"),
            ("extractor.augmentation.distort=2", "extractor.augmentation.distort is 2"),
            ("extractor.augmentation.scale=[2, 1]", "scale is [2, 1]; the first"),
        ] {
            let error = refused("photos.toml", change);
            assert!(error.contains(told), "{change}: {error}");
        }
        for (change, told) in [
            ("preprocess.height=100", "preprocess.height is 100; sides of a detector's input"),
            ("detector.sizes=[64, 70]", "detector.sizes is 70; they are multiples of 32"),
            ("detector.model.num_classes=0", "detector.model.num_classes is 0"),
            ("detector.model.neck_channels=99999", "detector.model.neck_channels is 99999"),
            ("detector.augmentation.flip=7", "detector.augmentation.flip is 7"),
            ("detector.scenes.size=[0, 1]", "detector.scenes.size is 0"),
        ] {
            let error = refused("photos-detector.toml", change);
            assert!(error.contains(told), "{change}: {error}");
        }
    }
}
