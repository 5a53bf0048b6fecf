//! S4D: diagonal state spaces as long convolutions (Gu et al. 2022, arXiv 2206.11893).
//!
//! One channel has N/2 complex poles A, coefficients C and a step dt. Discretised by zero-order
//! hold, `C' = C (exp(dt A) - 1) / A`, its kernel is `K[l] = 2 Re Σ_n C'_n exp(dt A_n l)`.

use std::f64::consts::TAU;

use tch::{Kind, Tensor};

/// How the convolution is worked out. All forms give the same values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// The faster of FFT and direct sum for the length.
    #[default]
    Auto,
    /// By Fourier transforms: O(L log L).
    Fft,
    /// As the sum over earlier positions: O(L²), faster for short sequences.
    Direct,
    /// Step by step, as the state space that it is: O(L N).
    Recurrence,
}

/// Up to this length the direct sum, whose matrix is [H, L, L], is faster than transforms.
const SHORT: i64 = 96;

/// One set of kernels, one a channel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub log_dt: Tensor,
    pub log_a_real: Tensor,
    pub a_imag: Tensor,
    pub c: Tensor,
}

/// Real and imaginary part.
struct Complex(Tensor, Tensor);

impl Complex {
    fn times(&self, other: &Self) -> Self {
        Self(
            &self.0 * &other.0 - &self.1 * &other.1,
            &self.0 * &other.1 + &self.1 * &other.0,
        )
    }
}

impl Kernel {
    /// `dt A` and `C'`, fp64, `[H, N/2]` each.
    fn poles(&self) -> (Complex, Complex) {
        let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let dt = double(&self.log_dt).exp().unsqueeze(-1);
        let (real, imag) = (-double(&self.log_a_real).exp(), double(&self.a_imag));
        let step = Complex(&real * &dt, &imag * &dt);
        let power = powers(&step, &Tensor::ones([1], (Kind::Double, dt.device())));
        let hold = Complex(power.0.squeeze_dim(-1) - 1.0, power.1.squeeze_dim(-1));
        let norm = real.square() + imag.square();
        let inverse = Complex(&real / &norm, -&imag / &norm);
        let c = double(&self.c);
        let c = Complex(c.select(-1, 0), c.select(-1, 1));
        (step, c.times(&hold).times(&inverse))
    }

    /// The kernel's first `length` values: `[H, length]`, fp32.
    ///
    /// Powers factor over `l = q Q + r`, which leaves 2 √L exponentials a pole and one matrix
    /// product. Angles are taken modulo 2π in fp64: at L = 65,536 they reach 6e5 rad.
    pub fn values(&self, length: i64) -> Tensor {
        let (step, c) = self.poles();
        let fine = (length as f64).sqrt().ceil() as i64;
        let coarse = (length + fine - 1) / fine;
        let range = |n| Tensor::arange(n, (Kind::Double, step.0.device()));
        let outer = powers(&step, &(range(coarse) * fine));
        let outer = Complex(c.0.unsqueeze(-1), c.1.unsqueeze(-1)).times(&outer);
        let inner = powers(&step, &range(fine));
        let left = Tensor::cat(&[&outer.0, &-outer.1], 1).transpose(1, 2);
        let right = Tensor::cat(&[inner.0, inner.1], 1);
        let product = left.to_kind(Kind::Float).bmm(&right.to_kind(Kind::Float));
        product
            .reshape([-1, coarse * fine])
            .narrow(1, 0, length)
            .g_mul_scalar(2.0)
    }

    /// Runs the state space: `[B, L, H]` to the same.
    fn scan(&self, u: &Tensor) -> Tensor {
        let (step, c) = self.poles();
        let pole = powers(&step, &Tensor::ones([1], (Kind::Double, u.device())));
        let pole = Complex(pole.0.squeeze_dim(-1), pole.1.squeeze_dim(-1));
        let (batch, length, _) = u.size3().expect("[B, L, H]");
        let shape = [&[batch], step.0.size().as_slice()].concat();
        let zeros = || Tensor::zeros(&shape, (Kind::Double, u.device()));
        let mut state = Complex(zeros(), zeros());
        let mut outputs = Vec::new();
        for t in 0..length {
            state = pole.times(&state);
            state.0 += u.select(1, t).unsqueeze(-1).to_kind(Kind::Double);
            let y = &c.0 * &state.0 - &c.1 * &state.1;
            outputs.push(y.sum_dim_intlist([-1i64].as_slice(), false, Kind::Double) * 2.0);
        }
        Tensor::stack(&outputs, 1).to_kind(u.kind())
    }
}

/// `exp(step l)` for each `l` of `[M]`: `[H, N/2, M]`.
fn powers(step: &Complex, l: &Tensor) -> Complex {
    let size = (step.0.unsqueeze(-1) * l).exp();
    let angle = (step.1.unsqueeze(-1) * l).fmod(TAU);
    Complex(&size * angle.cos(), &size * angle.sin())
}

/// The causal convolution of `u` with `forward`, and where there is `backward` the sum over
/// later positions with that, as `y[t] = Σ_{j≥0} K[j] u[t-j] + Σ_{j≥1} K'[j-1] u[t+j]`.
///
/// `u` is `[B, L, H]`, and so is the result.
pub(super) fn convolve(
    u: &Tensor,
    forward: &Kernel,
    backward: Option<&Kernel>,
    form: Form,
) -> Tensor {
    let length = u.size()[1];
    match form {
        Form::Auto if length <= SHORT => direct(u, forward, backward),
        Form::Direct => direct(u, forward, backward),
        Form::Auto | Form::Fft => fft(u, forward, backward),
        Form::Recurrence => {
            let y = forward.scan(u);
            match backward {
                None => y,
                Some(backward) => {
                    let turned = backward.scan(&u.flip([1]));
                    // Position t sees t+1 and on: shift by one, with nothing after the end.
                    let shifted = turned.flip([1]).narrow(1, 1, length - 1);
                    y + shifted.constant_pad_nd([0, 0, 0, 1])
                }
            }
        }
    }
}

fn fft(u: &Tensor, forward: &Kernel, backward: Option<&Kernel>) -> Tensor {
    let length = u.size()[1];
    let size = smooth(2 * length);
    let mut kernel = forward.values(length).constant_pad_nd([0, size - length]);
    if let Some(backward) = backward {
        let turned = backward.values(length).flip([1]);
        kernel += turned.constant_pad_nd([size - length, 0]);
    }
    let spectrum =
        u.transpose(1, 2).fft_rfft(size, -1, "backward") * kernel.fft_rfft(size, -1, "backward");
    spectrum
        .fft_irfft(size, -1, "backward")
        .narrow(-1, 0, length)
        .transpose(1, 2)
}

/// As one product a channel with the matrix `M[t, s] = K[t - s]`.
fn direct(u: &Tensor, forward: &Kernel, backward: Option<&Kernel>) -> Tensor {
    let length = u.size()[1];
    let ahead = match backward {
        Some(backward) => backward.values(length).narrow(1, 0, length - 1).flip([1]),
        None => Tensor::zeros([u.size()[2], length - 1], (Kind::Float, u.device())),
    };
    // Lags from -(L-1) to L-1; row t of the matrix is a window of it, read backwards.
    let lags = Tensor::cat(&[ahead, forward.values(length)], 1);
    let matrix = lags.flip([1]).unfold(1, length, 1).flip([1]);
    u.permute([2, 0, 1])
        .bmm(&matrix.transpose(1, 2))
        .permute([1, 2, 0])
}

/// The next number, from `n` on, with no prime factor above 5: lengths that transform fast.
fn smooth(n: i64) -> i64 {
    (n.max(1)..)
        .find(|&candidate| {
            let mut rest = candidate;
            for prime in [2, 3, 5] {
                while rest % prime == 0 {
                    rest /= prime;
                }
            }
            rest == 1
        })
        .expect("powers of two have no other factor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_draws::seeded;
    use tch::Device;

    fn kernel(channels: i64, half: i64, seed: i64) -> Kernel {
        let _held = seeded(seed);
        let float = (Kind::Float, Device::Cpu);
        let log_dt = Tensor::rand([channels], float) * (0.1f64 / 1e-3).ln() + 1e-3f64.ln();
        let a_imag = Tensor::arange(half, float) * std::f64::consts::PI;
        Kernel {
            log_dt,
            log_a_real: Tensor::full([channels, half], 0.5f64.ln(), float),
            a_imag: a_imag.expand([channels, half], false).contiguous(),
            c: Tensor::randn([channels, half, 2], float) * 0.5f64.sqrt(),
        }
    }

    fn relative(a: &Tensor, b: &Tensor) -> f64 {
        let b = b.to_kind(Kind::Double);
        ((a.to_kind(Kind::Double) - &b).norm() / b.norm()).double_value(&[])
    }

    #[test]
    fn the_forms_agree() {
        let (forward, backward) = (kernel(5, 8, 1), kernel(5, 8, 2));
        let _held = seeded(4);
        for length in [1, 2, 3, 57, 128] {
            let u = Tensor::randn([3, length, 5], (Kind::Float, Device::Cpu));
            for backward in [None, Some(&backward)] {
                let expected = convolve(&u, &forward, backward, Form::Recurrence);
                for form in [Form::Auto, Form::Fft, Form::Direct] {
                    let error = relative(&convolve(&u, &forward, backward, form), &expected);
                    assert!(error < 1e-5, "{form:?} {length}: {error}");
                }
            }
        }
    }

    /// The kernel of 65,536 values against sums in fp64, one by one.
    #[test]
    fn long_kernels_are_exact() {
        let kernel = kernel(3, 32, 3);
        let length = 65_536;
        let values = kernel.values(length);
        let (step, c) = kernel.poles();
        for l in [0i64, 1, 255, 256, 40_000, 65_535] {
            let exact = powers(&step, &Tensor::from_slice(&[l as f64]));
            let terms = &c.0 * exact.0.squeeze_dim(-1) - &c.1 * exact.1.squeeze_dim(-1);
            let exact = terms.sum_dim_intlist([1i64].as_slice(), false, Kind::Double) * 2.0;
            let found = values.select(1, l).to_kind(Kind::Double);
            let scale = values.abs().max().double_value(&[]);
            let error = (found - exact).abs().max().double_value(&[]);
            assert!(error < 1e-6 * scale, "{l}: {error}");
        }
        let _held = seeded(5);
        let u = Tensor::randn([1, length, 3], (Kind::Float, Device::Cpu));
        let y = convolve(&u, &kernel, None, Form::Fft);
        assert!(bool::try_from(y.isfinite().all()).expect("a boolean"));
        // The first outputs do not depend on the length.
        let head = convolve(&u.narrow(1, 0, 64), &kernel, None, Form::Recurrence);
        let error = relative(&y.narrow(1, 0, 64), &head);
        assert!(error < 1e-5, "{error}");
    }

    #[test]
    fn transform_lengths_are_smooth() {
        assert_eq!(smooth(572), 576);
        assert_eq!(smooth(1024), 1024);
        assert_eq!(smooth(0), 1);
    }
}
