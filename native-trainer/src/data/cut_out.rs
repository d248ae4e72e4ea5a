//! A thing is cut out of a photograph with a plain background: a product on paper, on a table, before a wall.
//!
//! The background is a smooth color: a polynomial of the second degree in both directions for each channel, fitted to
//! the edge of the photograph. What is as near to it as noise, and hangs together with the edge, is background.

use super::store::RgbaImage;

/// Width of the edge that the background is fitted to, as a share of the shorter side.
const EDGE: f32 = 0.04;
/// Share of the edge that is background in a photograph that can be cut; a thing may reach over the rest.
const LEAST_PLAIN: f32 = 0.9;
/// Largest distance of a background's pixel from the smooth color, in levels of 255 over three channels.
const TOLERANCE: f32 = 26.0;
/// Times that the background is fitted, each time to what is near to the last fit.
const FITS: usize = 6;
/// Smallest distance that counts as near, in levels of 255.
const LEAST_NEAR: f32 = 10.0;
/// Pieces smaller than this share of the largest one are shadows and specks of the background.
const LEAST_PIECE: f32 = 0.15;
/// Coefficients of the polynomial.
const TERMS: usize = 6;

/// The thing alone, in the box that it fills; `None` where the background is not plain, or nothing stands before it.
pub fn cut_out(picture: &RgbaImage) -> Option<RgbaImage> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    if width < 8 || height < 8 {
        return None;
    }
    let edge = edge(width, height);
    let distances = distances(picture, &edge)?;
    let background = from_edge(&distances, width, height);
    let plain = edge.iter().filter(|at| background[**at]).count();
    if (plain as f32) < LEAST_PLAIN * edge.len() as f32 {
        return None;
    }
    let thing = pieces(&background, width, height);
    trimmed(picture, &thing)
}

/// Positions of the pixels along the edge.
fn edge(width: usize, height: usize) -> Vec<usize> {
    let margin = ((EDGE * width.min(height) as f32) as usize).max(2);
    let inside = |at: usize, side: usize| at >= margin && at + margin < side;
    (0..width * height)
        .filter(|at| !(inside(at % width, width) && inside(at / width, height)))
        .collect()
}

fn terms(at: usize, width: usize, height: usize) -> [f64; TERMS] {
    let x = (at % width) as f64 / width as f64 - 0.5;
    let y = (at / width) as f64 / height as f64 - 0.5;
    [1.0, x, y, x * x, y * y, x * y]
}

fn color(picture: &RgbaImage, at: usize) -> [f64; 3] {
    [0, 1, 2].map(|channel| f64::from(picture.data[at * 4 + channel]))
}

/// Distance of every pixel from the smooth color of the edge.
fn distances(picture: &RgbaImage, edge: &[usize]) -> Option<Vec<f32>> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let mut near = edge.to_vec();
    let mut fitted = [[0.0; 3]; TERMS];
    let distance = |fitted: &[[f64; 3]; TERMS], at: usize| {
        let terms = terms(at, width, height);
        let color = color(picture, at);
        let square = |channel: usize| {
            let smooth: f64 = terms.iter().zip(fitted).map(|(t, f)| t * f[channel]).sum();
            (color[channel] - smooth).powi(2)
        };
        (square(0) + square(1) + square(2)).sqrt() as f32
    };
    for _ in 0..FITS {
        fitted = fit(picture, &near)?;
        let mut sorted: Vec<f32> = edge.iter().map(|at| distance(&fitted, *at)).collect();
        sorted.sort_by(f32::total_cmp);
        let limit = (sorted[sorted.len() * 3 / 4] * 1.5).max(LEAST_NEAR);
        near = edge.iter().copied().filter(|at| distance(&fitted, *at) < limit).collect();
    }
    Some((0..width * height).map(|at| distance(&fitted, at)).collect())
}

/// Least squares over some pixels; `None` where they do not determine the polynomial.
fn fit(picture: &RgbaImage, pixels: &[usize]) -> Option<[[f64; 3]; TERMS]> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    // The normal equations, three right sides behind the matrix.
    let mut rows = [[0.0; TERMS + 3]; TERMS];
    for at in pixels {
        let terms = terms(*at, width, height);
        let color = color(picture, *at);
        for (row, first) in rows.iter_mut().zip(terms) {
            for (value, second) in row.iter_mut().zip(terms.iter().chain(&color)) {
                *value += first * second;
            }
        }
    }
    for pivot in 0..TERMS {
        let best = (pivot..TERMS)
            .max_by(|a, b| rows[*a][pivot].abs().total_cmp(&rows[*b][pivot].abs()))?;
        rows.swap(pivot, best);
        let line = rows[pivot];
        if line[pivot].abs() < 1e-9 {
            return None;
        }
        for (index, row) in rows.iter_mut().enumerate() {
            let factor = row[pivot] / line[pivot];
            if index != pivot {
                row.iter_mut().zip(line).for_each(|(value, other)| *value -= factor * other);
            }
        }
    }
    let mut fitted = [[0.0; 3]; TERMS];
    for (index, (out, row)) in fitted.iter_mut().zip(&rows).enumerate() {
        *out = [0, 1, 2].map(|channel| row[TERMS + channel] / row[index]);
    }
    Some(fitted)
}

/// The four pixels beside a pixel.
fn beside(at: usize, width: usize, height: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (at % width, at / width);
    let left = (x > 0).then(|| at - 1);
    let right = (x + 1 < width).then(|| at + 1);
    let above = (y > 0).then(|| at - width);
    let below = (y + 1 < height).then(|| at + width);
    [left, right, above, below].into_iter().flatten()
}

/// Which pixels are near to the smooth color and hang together with the outermost ones.
fn from_edge(distances: &[f32], width: usize, height: usize) -> Vec<bool> {
    let outermost = |at: &usize| {
        let (x, y) = (at % width, at / width);
        x == 0 || y == 0 || x + 1 == width || y + 1 == height
    };
    let mut found = vec![false; distances.len()];
    let mut open: Vec<usize> =
        (0..distances.len()).filter(outermost).filter(|at| distances[*at] < TOLERANCE).collect();
    open.iter().for_each(|at| found[*at] = true);
    while let Some(at) = open.pop() {
        for next in beside(at, width, height) {
            if !found[next] && distances[next] < TOLERANCE {
                found[next] = true;
                open.push(next);
            }
        }
    }
    found
}

/// Which pixels belong to a piece in front of the background that is no speck.
fn pieces(background: &[bool], width: usize, height: usize) -> Vec<bool> {
    let mut seen = background.to_vec();
    let mut found: Vec<Vec<usize>> = Vec::new();
    for start in 0..seen.len() {
        if seen[start] {
            continue;
        }
        seen[start] = true;
        let mut piece = vec![start];
        let mut next = 0;
        while let Some(at) = piece.get(next).copied() {
            next += 1;
            for other in beside(at, width, height) {
                if !seen[other] {
                    seen[other] = true;
                    piece.push(other);
                }
            }
        }
        found.push(piece);
    }
    let largest = found.iter().map(Vec::len).max().unwrap_or(0);
    let mut thing = vec![false; background.len()];
    for piece in found.iter().filter(|piece| piece.len() as f32 >= LEAST_PIECE * largest as f32) {
        piece.iter().for_each(|at| thing[*at] = true);
    }
    thing
}

/// The box around the thing, transparent outside of it, its outline softened over three pixels.
fn trimmed(picture: &RgbaImage, thing: &[bool]) -> Option<RgbaImage> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let inside = || (0..thing.len()).filter(|at| thing[*at]);
    let (left, right) =
        (inside().map(|at| at % width).min()?, inside().map(|at| at % width).max()?);
    let (top, bottom) =
        (inside().map(|at| at / width).min()?, inside().map(|at| at / width).max()?);
    let mut data = Vec::with_capacity((right - left + 1) * (bottom - top + 1) * 4);
    for y in top..=bottom {
        for x in left..=right {
            let at = y * width + x;
            data.extend_from_slice(&picture.data[at * 4..at * 4 + 3]);
            let around = (y.saturating_sub(1)..=(y + 1).min(height - 1)).flat_map(|y| {
                (x.saturating_sub(1)..=(x + 1).min(width - 1)).map(move |x| y * width + x)
            });
            let (mut count, mut covered) = (0, 0);
            for other in around {
                count += 1;
                covered += u32::from(thing[other]);
            }
            data.push(if thing[at] { (covered * 255 / count) as u8 } else { 0 });
        }
    }
    Some(RgbaImage { width: (right - left + 1) as u32, height: (bottom - top + 1) as u32, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk before a background that becomes brighter to the right, or before stripes.
    fn photograph(striped: bool) -> RgbaImage {
        let (width, height) = (60, 40);
        let mut data = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let noise = ((x * 7 + y * 13) % 5) as u8;
                let inside = (x as i32 - 35).pow(2) + (y as i32 - 20).pow(2) < 100;
                let gray = if striped { (x / 4 % 2 * 150) as u8 } else { 120 + x as u8 + noise };
                data.extend_from_slice(&if inside {
                    [200, 40, noise, 255]
                } else {
                    [gray, gray, gray, 255]
                });
            }
        }
        RgbaImage { width, height, data }
    }

    #[test]
    fn a_thing_before_a_plain_background_is_cut_out_and_another_background_is_refused() {
        let disk = cut_out(&photograph(false)).unwrap();
        assert_eq!((disk.width, disk.height), (19, 19));
        let alpha = |x: u32, y: u32| disk.data[((y * disk.width + x) * 4 + 3) as usize];
        assert_eq!((alpha(9, 9), alpha(0, 0), alpha(18, 18)), (255, 0, 0));
        let colors = disk.data.chunks_exact(4).filter(|pixel| pixel[3] > 0);
        assert!(colors.clone().count() > 250 && colors.clone().all(|pixel| pixel[0] == 200));
        assert!(cut_out(&photograph(true)).is_none(), "stripes are no plain background");
        let mut empty = photograph(false);
        empty.data.iter_mut().for_each(|value| *value = 200);
        assert!(cut_out(&empty).is_none(), "nothing stands before it");
    }
}
