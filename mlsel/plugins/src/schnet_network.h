// One SchNet's dense layers in the compressed mode, and its features of this process's atoms.
#ifndef MLSEL_SCHNET_NETWORK_H
#define MLSEL_SCHNET_NETWORK_H

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "model_file.h"
#include "schnet_parts.h"

namespace mlsel {

/// What networks evaluated together send lies side by side in an atom's row of messages: this one's
/// numbers begin at `column`, the next atom's are `stride` further on.
template <typename Real> class Network {
 public:
  static constexpr int BLOCK = 48;    // most rows that go through the layers together

  /// Such rows, and a thread's room for them.
  struct Block {
    int row, n;
    Real *scratch;
  };

  Network(const Kernel<Real> &kernel, const ModelFile &file, int column, int stride)
      : kernel_(kernel), offsets_(file.energy_offsets), n_layers_(file.compressed.n_layers),
        n_basis_(file.compressed.n_atom_basis), basis_width_(padded<Real>(n_basis_)),
        n_filters_(file.compressed.n_filters), filter_width_(padded<Real>(n_filters_)),
        column_(column), stride_(stride), inner_(activation(file.compressed.activation)),
        outer_(activation(file.compressed.readout_activation)), slopes_(n_layers_)
  {
    const Compressed &from = file.compressed;
    for (int k = 0; k < n_layers_; k++) {
      const std::string layer = "layer" + std::to_string(k) + '/';
      in2f_.emplace_back(from.array(layer + "in2f"), n_basis_, nullptr);
      f2out0_.emplace_back(from.array(layer + "f2out0/weight"), n_filters_,
                           &from.array(layer + "f2out0/bias"));
      f2out1_.emplace_back(from.array(layer + "f2out1/weight"), n_basis_,
                           &from.array(layer + "f2out1/bias"));
    }
    const int n_species = static_cast<int>(file.numbers.size());
    readouts_.resize(from.n_networks(n_species));
    widest_ = std::max(basis_width_, filter_width_);
    for (size_t s = 0; s < readouts_.size(); s++) {
      int width = n_basis_;
      for (size_t k = 0; k < from.readout.size(); k++) {
        const std::string layer = from.network(s) + "readout" + std::to_string(k) + '/';
        readouts_[s].emplace_back(from.array(layer + "weight"), width, &from.array(layer + "bias"));
        if (k + 1 == from.readout.size() && from.has_rigidity)
          add_rigidity(from.array(from.network(s) + "rigidity"), width);
        width = from.readout[k];
        widest_ = std::max(widest_, padded<Real>(width));
      }
    }

    embedding_.need(static_cast<size_t>(n_species) * basis_width_);
    first_y_.need(static_cast<size_t>(n_species) * filter_width_);
    const auto &embedding = from.array("embedding");
    for (int s = 0; s < n_species; s++)
      for (int k = 0; k < n_basis_; k++)
        embedding_.get()[s * basis_width_ + k] =
            static_cast<Real>(embedding[static_cast<size_t>(s) * n_basis_ + k]);
    // before the first layer an atom's features depend on its species alone
    kernel_.product(n_species, n_basis_, filter_width_, embedding_.get(), basis_width_,
                    in2f_[0].matrix.get(), nullptr, first_y_.get(), filter_width_, false);
  }

  bool has_sigmas() const { return !rigidity_.empty(); }
  size_t scratch_size() const
  {
    return static_cast<size_t>(BLOCK) * widest_ * (ROWS_SCRATCH + 2 + readouts_[0].size());
  }
  size_t memory_size() const
  {
    size_t n = x_.size() + gradient_.size();
    for (const Buffer<Real> &one : slopes_) n += one.size();
    return n;
  }

  /// For a new neighbour list: the species of own atoms' rows, −1 where an atom is not ours.
  void set_rows(int n_local, const int *species)
  {
    species_ = species;
    x_.need(static_cast<size_t>(n_local) * basis_width_);
    gradient_.need(static_cast<size_t>(n_local) * basis_width_);
    for (Buffer<Real> &one : slopes_) one.need(static_cast<size_t>(n_local) * basis_width_);
  }

  /// What an atom of this species, or one that is not ours, sends in the first layer.
  void first_sent(int species, Real *y_row) const
  {
    Real *to = y_row + column_;
    if (species < 0)
      std::fill(to, to + filter_width_, Real(0));
    else
      std::copy_n(first_y_.get() + species * filter_width_, filter_width_, to);
  }

  /// After layer k's messages to a block: x += f2out(messages), and what the next layer sends.
  void update(int k, const Block &block, const Real *messages, Real *y_next)
  {
    const int row = block.row, n = block.n;
    Real *inner = scratch(block, 0);
    Real *slopes = at(slopes_[k], row, basis_width_), *x = at(x_, row, basis_width_);
    kernel_.product(n, n_filters_, basis_width_, messages + column_, stride_,
                    f2out0_[k].matrix.get(), f2out0_[k].bias.get(), inner, basis_width_, false);
    kernel_.activate(inner_, n * basis_width_, inner, slopes);
    if (k == 0) {
      for (int i = 0; i < n; i++) {
        const Real *from = embedding_.get() + std::max(species_[row + i], 0) * basis_width_;
        for (int m = 0; m < basis_width_; m++)
          x[i * basis_width_ + m] = from[m] + f2out1_[0].bias.get()[m];
      }
    } else {
      const Real *bias = f2out1_[k].bias.get();
      for (int i = 0; i < n; i++)
        for (int m = 0; m < basis_width_; m++) x[i * basis_width_ + m] += bias[m];
    }
    kernel_.product(n, n_basis_, basis_width_, inner, basis_width_, f2out1_[k].matrix.get(),
                    nullptr, x, basis_width_, true);
    if (k + 1 < n_layers_)
      kernel_.product(n, n_basis_, filter_width_, x, basis_width_, in2f_[k + 1].matrix.get(),
                      nullptr, y_next + static_cast<size_t>(row) * stride_ + column_, stride_,
                      false);
  }

  /// Energies, their uncertainties unless null, and their gradient by x.
  void read_out(const Block &block, double *energies, double *sigmas)
  {
    const int row = block.row, n = block.n;
    const Real *x = at(x_, row, basis_width_);
    Real *gradient = at(gradient_, row, basis_width_);
    if (readouts_.size() == 1) {
      const Real *found = through(block, 0, n, x, gradient, sigmas ? sigmas + row : nullptr);
      for (int i = 0; i < n; i++) {
        set_energy(row + i, found[i * padded<Real>(1)], energies);
        if (sigmas && species_[row + i] < 0) sigmas[row + i] = 0.0;
      }
      return;
    }
    // each element's rows together through its network
    Real *in = scratch(block, ROWS_SCRATCH), *out = scratch(block, ROWS_SCRATCH + 1);
    int rows[BLOCK];
    double own_sigmas[BLOCK];
    for (size_t s = 0; s < readouts_.size(); s++) {
      int n_own = 0;
      for (int i = 0; i < n; i++)
        if (species_[row + i] == static_cast<int>(s)) {
          std::copy_n(x + i * basis_width_, basis_width_, in + n_own * basis_width_);
          rows[n_own++] = i;
        }
      if (!n_own) continue;
      const Real *found = through(block, s, n_own, in, out, sigmas ? own_sigmas : nullptr);
      for (int i = 0; i < n_own; i++) {
        if (sigmas) sigmas[row + rows[i]] = own_sigmas[i];
        std::copy_n(out + i * basis_width_, basis_width_, gradient + rows[i] * basis_width_);
        set_energy(row + rows[i], found[i * padded<Real>(1)], energies);
      }
    }
    for (int i = 0; i < n; i++)
      if (species_[row + i] < 0) {
        std::fill_n(gradient + i * basis_width_, basis_width_, Real(0));
        energies[row + i] = 0.0;
        if (sigmas) sigmas[row + i] = 0.0;
      }
  }

  /// From the gradient by x after layer k, that by its messages.
  void gather_gradient(int k, const Block &block, Real *message_gradient)
  {
    const int row = block.row, n = block.n;
    Real *inner = scratch(block, 0);
    kernel_.product(n, n_basis_, basis_width_, at(gradient_, row, basis_width_), basis_width_,
                    f2out1_[k].transposed.get(), nullptr, inner, basis_width_, false);
    kernel_.scale(n * basis_width_, inner, at(slopes_[k], row, basis_width_));
    kernel_.product(n, n_basis_, filter_width_, inner, basis_width_, f2out0_[k].transposed.get(),
                    nullptr, message_gradient + static_cast<size_t>(row) * stride_ + column_,
                    stride_, false);
  }

  /// Adds to the gradient by x what comes through the messages that a block sent in layer k.
  void receive_gradient(int k, const Block &block, const Real *y_gradients)
  {
    kernel_.product(block.n, n_filters_, basis_width_, y_gradients + column_, stride_,
                    in2f_[k].transposed.get(), nullptr, at(gradient_, block.row, basis_width_),
                    basis_width_, true);
  }

 private:
  static constexpr int ROWS_SCRATCH = 4;    // after it: rows of one element, in and out; slopes

  /// The matrix whose product with an output network's last features, and 1 behind them, is as long
  /// as the energy is uncertain (eV).
  void add_rigidity(const std::vector<double> &matrix, int n_features)
  {
    const auto n = static_cast<size_t>(n_features), width = n + 1;
    std::vector<double> weight(width * n), constant(width);
    for (size_t row = 0; row < width; row++) {
      std::copy_n(matrix.begin() + static_cast<ptrdiff_t>(row * width), n,
                  weight.begin() + static_cast<ptrdiff_t>(row * n));
      constant[row] = matrix[row * width + n];
    }
    rigidity_.emplace_back(weight, n_features, &constant);
    widest_ = std::max(widest_, padded<Real>(n_features + 1));
  }

  Real *scratch(const Block &block, size_t k) const { return block.scratch + k * BLOCK * widest_; }
  Real *output_slopes(const Block &block, size_t k) const
  {
    return scratch(block, ROWS_SCRATCH + 2 + k);
  }
  Real *at(const Buffer<Real> &rows, int row, int width) const
  {
    return rows.get() + static_cast<size_t>(row) * width;
  }

  void set_energy(int row, Real value, double *energies) const
  {
    const int species = species_[row];
    energies[row] = species < 0 ? 0.0 : offsets_[species] + static_cast<double>(value);
  }

  /// An output network's values for n rows, padded<Real>(1) apart, and their gradient by the rows.
  const Real *through(const Block &block, size_t s, int n, const Real *input, Real *input_gradient,
                      double *sigmas)
  {
    const std::vector<Dense<Real>> &network = readouts_[s];
    int input_width = basis_width_;
    for (size_t k = 0; k < network.size(); k++) {
      const Dense<Real> &layer = network[k];
      if (sigmas && k + 1 == network.size())
        find_sigmas(block, rigidity_[s], n, input, input_width, sigmas);
      const int width = padded<Real>(layer.n_out);
      Real *values = scratch(block, k % 2);
      kernel_.product(n, layer.n_in, width, input, input_width, layer.matrix.get(),
                      layer.bias.get(), values, width, false);
      if (k + 1 < network.size())
        kernel_.activate(outer_, n * width, values, output_slopes(block, k));
      input = values;
      input_width = width;
    }
    // backwards: the gradient by the energy is 1
    Real *gradient = scratch(block, 2);
    int width = padded<Real>(1);
    for (int i = 0; i < n; i++) gradient[i * width] = Real(1);
    for (size_t k = network.size(); k-- > 0;) {
      const Dense<Real> &layer = network[k];
      const int next = padded<Real>(layer.n_in);
      Real *out = k == 0 ? input_gradient : scratch(block, 2 + (network.size() - k) % 2);
      kernel_.product(n, layer.n_out, next, gradient, width, layer.transposed.get(), nullptr, out,
                      next, false);
      if (k > 0) kernel_.scale(n * next, out, output_slopes(block, k - 1));
      gradient = out;
      width = next;
    }
    return input;
  }

  void find_sigmas(const Block &block, const Dense<Real> &rigidity, int n, const Real *features,
                   int feature_width, double *sigmas)
  {
    const int width = padded<Real>(rigidity.n_out);
    Real *long_as = scratch(block, 2);    // free until the way back
    kernel_.product(n, rigidity.n_in, width, features, feature_width, rigidity.matrix.get(),
                    rigidity.bias.get(), long_as, width, false);
    for (int i = 0; i < n; i++) {
      double square = 0.0;
      for (int k = 0; k < rigidity.n_out; k++) {
        const auto one = static_cast<double>(long_as[i * width + k]);
        square += one * one;
      }
      sigmas[i] = std::sqrt(square);
    }
  }

  const Kernel<Real> &kernel_;
  std::vector<double> offsets_;
  int n_layers_, n_basis_, basis_width_, n_filters_, filter_width_, column_, stride_, widest_ = 0;
  Activation inner_, outer_;
  std::vector<Dense<Real>> in2f_, f2out0_, f2out1_;
  std::vector<std::vector<Dense<Real>>> readouts_;    // one, or one for each species
  std::vector<Dense<Real>> rigidity_;                 // of each of them, or none
  Buffer<Real> embedding_, first_y_;

  const int *species_ = nullptr;
  Buffer<Real> x_, gradient_;
  std::vector<Buffer<Real>> slopes_;    // of each layer's activation
};

}    // namespace mlsel
#endif
