//! What a forest and a model promise on every input: sizes from 0, duplicates, constants, missing values, threads, order.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test stops at the first surprise and says what it skips"
)]

use detector_forest::{
    FitError, Forest, ForestParams, Missing, Model, ParamsError, Rows, Sampling, ScoreError, Training,
    average_path_length,
};
use linfa::traits::{Fit as _, Predict as _};
use linfa::{DatasetBase, ParamGuard as _};
use ndarray::{Array1, Array2, s};
use proptest::prelude::*;

fn fit(rows: &Array2<f32>, params: &ForestParams) -> Forest {
    params.fit(&DatasetBase::from(rows.clone())).unwrap()
}

/// A cloud of rows with a few far away, without a random crate: a Weyl sequence through a bell shape.
fn cloud(n_rows: usize, n_features: usize) -> Array2<f32> {
    Array2::from_shape_fn((n_rows, n_features), |(i, j)| {
        let unit = |k: usize| ((i * 7 + k * 13 + j * 29 + 1) as f64 * 0.754_877_666_246_693).fract();
        let bell = (unit(1) + unit(i) + unit(i / 3 + j)) / 3.0;
        let far = if i % 97 == 13 && j % 3 == 0 { 9.0 } else { 0.0 };
        (bell + far) as f32
    })
}

fn names(n: usize) -> Training {
    Training {
        features: (0..n).map(|j| format!("f{j}")).collect(),
        ..Training::default()
    }
}

#[test]
fn any_number_of_rows_fits_and_scores() {
    for n_rows in [0, 1, 2, 3, 5, 17, 255, 256, 257, 600] {
        for n_features in [0, 1, 3, 20] {
            let rows = cloud(n_rows, n_features);
            let forest = fit(&rows, &ForestParams::new(1).n_trees(10));
            for n_scored in [0, 1, 15, 16, 17, 300] {
                let scores = forest.score(&cloud(n_scored, n_features)).unwrap();
                assert_eq!(scores.len(), n_scored);
                assert!(
                    scores.iter().all(|score| (0.0..=1.0).contains(score)),
                    "{n_rows} × {n_features}"
                );
            }
        }
    }
}

#[test]
fn no_rows_one_row_and_equal_rows_give_no_opinion() {
    let none = fit(&Array2::zeros((0, 4)), &ForestParams::new(1));
    let one = fit(&Array2::ones((1, 4)), &ForestParams::new(1));
    let equal = fit(&Array2::ones((1_000, 4)), &ForestParams::new(1));
    for forest in [none, one, equal] {
        let scores = forest.score(&cloud(50, 4)).unwrap();
        assert!(
            scores.iter().all(|score| (score - 0.5).abs() < 1e-7),
            "{scores:?}"
        );
    }
}

#[test]
fn a_constant_column_changes_nothing_but_the_draws() {
    let rows = cloud(900, 3);
    let mut wide = Array2::<f32>::from_elem((900, 40), 3.0);
    wide.slice_mut(s![.., 5..8]).assign(&rows);
    let scores = fit(&wide, &ForestParams::new(3)).score(&wide).unwrap();
    let far = |i: &usize| i % 97 == 13;
    let least_far = (0..900).filter(far).map(|i| scores[i]).fold(1.0, f64::min);
    let most_near = (0..900)
        .filter(|i| !far(i))
        .map(|i| scores[i])
        .fold(0.0, f64::max);
    assert!(least_far > most_near, "{least_far} {most_near}");
}

#[test]
fn a_rare_value_among_duplicates_stands_out() {
    let mut rows = Array2::<f32>::zeros((5_000, 3));
    rows[[4_000, 1]] = 1.0;
    rows[[4_001, 2]] = 1e30;
    rows[[4_002, 0]] = f32::INFINITY;
    rows[[4_003, 0]] = -f32::INFINITY;
    // All of it in one sample, so that every tree has seen the rare ones.
    let forest = fit(&rows, &ForestParams::new(3).subsample_size(5_000));
    let scores = forest.score(&rows).unwrap();
    for rare in 4_000..4_004 {
        assert!(
            scores[rare] > scores[0] + 0.1,
            "{rare}: {} {}",
            scores[rare],
            scores[0]
        );
    }
}

#[test]
fn threads_change_no_bit() {
    let rows = cloud(3_001, 12);
    let one = fit(&rows, &ForestParams::new(9));
    for n_threads in [2, 3, 8] {
        let many = fit(&rows, &ForestParams::new(9).n_threads(n_threads));
        let bits = |scores: Vec<f64>| scores.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(one.score(&rows).unwrap()), bits(many.score(&rows).unwrap()));
        assert_eq!(one.to_json(), many.to_json());
    }
}

#[test]
fn the_order_of_rows_changes_no_bit_of_a_model_drawn_by_content() {
    let mut rows = cloud(2_500, 7);
    // Ties and missing values are where an order could leak in.
    rows.slice_mut(s![..1_200, 2]).fill(0.25);
    rows.slice_mut(s![..1_200, ..1]).fill(0.5);
    rows.slice_mut(s![300..700, 4]).fill(f32::NAN);
    let order: Vec<usize> = (0..2_500).map(|i| (i * 1_237 + 11) % 2_500).collect();
    let shuffled = rows.select(ndarray::Axis(0), &order);
    let params = ForestParams::new(4).sampling(Sampling::Content);
    let model = Model::fit(&rows, &params, names(7)).unwrap();
    let again = Model::fit(&shuffled, &params, names(7)).unwrap();
    assert_eq!(model.to_bytes(), again.to_bytes());
    let by_position = params.sampling(Sampling::Position);
    let model = Model::fit(&rows, &by_position, names(7)).unwrap();
    let again = Model::fit(&shuffled, &by_position, names(7)).unwrap();
    assert_ne!(model.to_bytes(), again.to_bytes());
}

#[test]
fn layout_and_width_of_the_matrix_change_nothing() {
    let rows = cloud(1_000, 9);
    let wide = rows.mapv(f64::from);
    let by_columns = wide.t().as_standard_layout().to_owned();
    let every_other = Array2::from_shape_fn((2_000, 9), |(i, j)| rows[[i / 2, j]]);
    let params = ForestParams::new(2).check().unwrap();
    let expected = fit(&rows, &ForestParams::new(2)).score(&rows).unwrap();
    let f64_scores = params
        .fit(&DatasetBase::from(wide.clone()))
        .unwrap()
        .score(&wide)
        .unwrap();
    assert_eq!(expected, f64_scores);
    let view = by_columns.t();
    assert_eq!(
        expected,
        params.fit(&DatasetBase::from(view)).unwrap().score(view).unwrap()
    );
    let strided = every_other.slice(s![..;2, ..]);
    assert_eq!(
        expected,
        params
            .fit(&DatasetBase::from(strided))
            .unwrap()
            .score(strided)
            .unwrap()
    );
}

#[test]
fn predict_is_score() {
    let rows = cloud(300, 4);
    let forest = fit(&rows, &ForestParams::new(1));
    let predicted: Array1<f64> = forest.predict(&rows);
    assert_eq!(predicted.to_vec(), forest.score(&rows).unwrap());
}

#[test]
fn a_missing_value_goes_both_ways_in_proportion() {
    // One feature, one cut between 0 and 1: the length of a missing value is the mean of both sides by their rows.
    let rows = Array2::from_shape_fn((100, 1), |(i, _)| if i < 30 { 0.0_f32 } else { 1.0 });
    let forest = fit(&rows, &ForestParams::new(1).n_trees(5));
    let missing = Array2::from_elem((1, 1), f32::NAN);
    let length = |value: &Array2<f32>| forest.path_lengths(value).unwrap()[0];
    let low = length(&Array2::zeros((1, 1)));
    let high = length(&Array2::ones((1, 1)));
    assert!((low - 1.0 - average_path_length(30)).abs() < 1e-6);
    assert!((length(&missing) - (0.3 * low + 0.7 * high)).abs() < 1e-6);
}

#[test]
fn a_missing_value_is_no_zero_and_hides_no_other_feature() {
    let mut rows = cloud(2_000, 6);
    rows.mapv_inplace(|value| value + 100.0);
    for i in (0..2_000).step_by(3) {
        rows[[i, 2]] = f32::NAN;
    }
    let forest = fit(&rows, &ForestParams::new(8));
    let mut probe = Array2::from_elem((3, 6), 100.5_f32);
    probe[[1, 2]] = f32::NAN;
    probe[[2, 2]] = 0.0;
    let scores = forest.score(&probe).unwrap();
    assert!(
        (scores[1] - scores[0]).abs() < 0.05,
        "missing is ordinary: {scores:?}"
    );
    assert!(scores[2] > scores[0] + 0.05, "zero is not: {scores:?}");
    probe[[1, 0]] = 5_000.0;
    let strange = forest.score(&probe).unwrap()[1];
    assert!(strange > scores[1] + 0.05, "{strange} {scores:?}");
}

#[test]
fn policies_fill_and_refuse() {
    let rows = cloud(500, 3);
    let mut with_gap = rows.clone();
    with_gap[[4, 1]] = f32::NAN;
    let mut filled = rows.clone();
    filled[[4, 1]] = -1.0;
    let fill =
        ForestParams::new(1).missing(vec![Missing::BothBranches, Missing::Fill(-1.0), Missing::Refuse]);
    let forest = fit(&with_gap, &fill);
    assert_eq!(
        forest.score(&with_gap).unwrap(),
        fit(&filled, &fill).score(&filled).unwrap()
    );
    with_gap[[7, 2]] = f32::NAN;
    let refused = ScoreError::Missing { row: 7, feature: 2 };
    assert_eq!(forest.score(&with_gap), Err(refused));
    let error = fill.fit(&DatasetBase::from(with_gap)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "feature 2 is missing in row 7: fill it, or choose another policy for it"
    );
}

#[test]
fn a_feature_that_is_always_missing_says_nothing() {
    let rows = cloud(800, 3);
    let mut wide = Array2::<f32>::from_elem((800, 4), f32::NAN);
    wide.slice_mut(s![.., ..3]).assign(&rows);
    let model = Model::fit(&wide, &ForestParams::new(1), names(4)).unwrap();
    let evidence = model.evaluate(&wide).unwrap();
    let row = wide.row(13).to_vec();
    let reasons = model.reasoner().reasons(&row, &evidence[13]).unwrap();
    assert!(reasons.iter().all(|reason| reason.feature != Some(3)));
    assert!(evidence.iter().all(|e| e.bits.is_finite()));
}

#[test]
fn parameters_out_of_range_are_named() {
    let rows = DatasetBase::from(cloud(10, 2));
    let error = |params: ForestParams| params.fit(&rows).unwrap_err().to_string();
    assert_eq!(
        error(ForestParams::new(1).n_trees(0)),
        "n_trees is 0: set it from 1 to 10000"
    );
    assert!(error(ForestParams::new(1).subsample_size(0)).starts_with("subsample_size is 0"));
    assert!(error(ForestParams::new(1).n_threads(0)).starts_with("n_threads is 0"));
    let fill = vec![Missing::Refuse, Missing::Fill(f32::NAN)];
    assert!(matches!(
        ForestParams::new(1).missing(fill).fit(&rows),
        Err(FitError::Params(ParamsError::Fill(1)))
    ));
    assert!(matches!(
        ForestParams::new(1).missing(vec![Missing::Refuse]).fit(&rows),
        Err(FitError::Policies {
            given: 1,
            n_features: 2
        })
    ));
}

#[test]
fn other_features_are_refused_by_the_first_that_differs() {
    let model = Model::fit(&cloud(50, 3), &ForestParams::new(1), names(3)).unwrap();
    let refused = |names: &[&str]| model.check_features(names).unwrap_err().to_string();
    model.check_features(&["f0", "f1", "f2"]).unwrap();
    assert_eq!(
        refused(&["f0", "f2", "f1"]),
        "feature 1 is `f2` and the model was trained on `f1` there: train it again"
    );
    assert_eq!(
        refused(&["f0", "f1", "f2", "x"]),
        "feature `x` is unknown to the model: train it again"
    );
    assert!(refused(&["f0"]).starts_with("feature `f1` of the model is not given"));
    let other = model.evaluate(&cloud(5, 4));
    assert_eq!(
        other,
        Err(ScoreError::Features {
            given: 4,
            expected: 3
        })
    );
}

#[test]
fn a_saved_model_of_sixty_features_is_below_200_kb() {
    let model = Model::fit(&cloud(6_000, 60), &ForestParams::new(1), names(60)).unwrap();
    let size = model.to_bytes().len();
    assert!(size < 200_000, "{size} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn prop_attributions_add_up_to_the_depth_gap_and_reasons_to_the_evidence(
        seed in any::<u64>(),
        n_rows in 2_usize..700,
        gaps in proptest::collection::vec((0_usize..700, 0_usize..5), 0..20),
    ) {
        let mut rows = cloud(n_rows, 5);
        for (row, feature) in gaps {
            if row < n_rows {
                rows[[row, feature]] = f32::NAN;
            }
        }
        let model = Model::fit(&rows, &ForestParams::new(seed).n_trees(30), names(5)).unwrap();
        let forest = model.forest();
        let lengths = forest.path_lengths(&rows).unwrap();
        let evidence = model.evaluate(Rows::from(&rows)).unwrap();
        let (explainer, reasoner) = (forest.explainer(), model.reasoner());
        for row in (0..n_rows).step_by(1 + n_rows / 20) {
            let values = rows.row(row).to_vec();
            let explanation = explainer.explain(&values).unwrap();
            let gap = average_path_length(forest.sample_size()) - lengths[row];
            let sum: f64 = explanation.attributions.iter().sum();
            prop_assert!((sum - gap).abs() < 1e-6, "{sum} {gap}");
            prop_assert!((explanation.depth_gap - gap).abs() < 1e-6);
            let reasons = reasoner.reasons(&values, &evidence[row]).unwrap();
            for (voice, bits) in [("forest", evidence[row].forest.bits), ("robust_z", evidence[row].robust_z.bits)] {
                let sum: f64 = reasons.iter().filter(|r| r.voice.name() == voice).map(|r| r.bits).sum();
                prop_assert!((sum - bits).abs() < 1e-6);
            }
            let total: f64 = reasons.iter().map(|reason| reason.bits).sum();
            prop_assert!((total - evidence[row].bits).abs() < 1e-6);
        }
    }
}
