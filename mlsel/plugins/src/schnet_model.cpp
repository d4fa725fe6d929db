#include "schnet_model.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "schnet_parts.h"
#include "spline.h"

namespace mlsel {
namespace {

template <typename Real> class Model : public CompressedModel {
 public:
  Model(const ModelFile &file, int n_threads)
      : kernel_(choose_schnet_kernel<Real>()), team_(n_threads), cutoff_(file.cutoff),
        offsets_(file.energy_offsets), n_layers_(file.compressed.n_layers),
        n_basis_(file.compressed.n_atom_basis), basis_width_(padded<Real>(n_basis_)),
        n_filters_(file.compressed.n_filters), filter_width_(padded<Real>(n_filters_)),
        n_knots_(file.compressed.n_knots), inner_(activation(file.compressed.activation)),
        outer_(activation(file.compressed.readout_activation))
  {
    const Compressed &from = file.compressed;
    for (int k = 0; k < n_layers_; k++) {
      const std::string layer = "layer" + std::to_string(k) + '/';
      in2f_.emplace_back(from.array(layer + "in2f"), n_basis_, nullptr);
      f2out0_.emplace_back(from.array(layer + "f2out0/weight"), n_filters_,
                           &from.array(layer + "f2out0/bias"));
      f2out1_.emplace_back(from.array(layer + "f2out1/weight"), n_basis_,
                           &from.array(layer + "f2out1/bias"));
      tables_.push_back(make_table(from.array(layer + "table")));
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

    y_.resize(n_layers_);
    slopes_.resize(n_layers_);
    for (int t = 0; t < team_.size(); t++) {
      threads_.emplace_back();
      threads_.back().scratch.need(static_cast<size_t>(BLOCK) * widest_ *
                                   (ROWS_SCRATCH + 2 + from.readout.size()));
    }
  }

  void set_graph(const Graph &graph) override
  {
    graph_ = graph;
    const size_t n_local = graph.n_local, n_rows = graph.n_rows;
    const size_t n_candidates = n_local ? graph.first[n_local] : 0;
    n_pairs_.resize(n_local);
    sender_.resize(n_candidates);
    knot_.resize(n_candidates);
    place_.resize(n_candidates);
    weights_.need(SPLINES * n_candidates);
    weight_slopes_.need(SPLINES * n_candidates);
    direction_.resize(4 * n_candidates);
    pair_gradient_.resize(n_candidates);
    x_.need(n_local * basis_width_);
    gradient_.need(n_local * basis_width_);
    message_gradient_.need(n_local * filter_width_);
    y_gradient_.need(n_rows * filter_width_);
    for (int k = 0; k < n_layers_; k++) {
      y_[k].need(n_rows * filter_width_);
      slopes_[k].need(n_local * basis_width_);
    }
    buffers_.clear();
    for (Thread &thread : threads_) {
      thread.rows.need(static_cast<size_t>(graph.n_rows) * filter_width_);
      // zero already, unless an error ended the last step
      std::fill(thread.rows.get(), thread.rows.get() + thread.rows.size(), Real(0));
      thread.forces.resize(3 * static_cast<size_t>(graph.n_rows));
      buffers_.push_back(thread.rows.get());
    }
    for (size_t row = 0; row < n_rows; row++) {
      Real *to = y_[0].get() + row * filter_width_;
      const int species = graph.species[row];
      if (species < 0)
        std::fill(to, to + filter_width_, Real(0));
      else
        std::copy_n(first_y_.get() + species * filter_width_, filter_width_, to);
    }
    // atoms for each thread: as many candidates as the others
    bounds_.assign(team_.size() + 1, graph.n_local);
    bounds_[0] = 0;
    for (int t = 1; t < team_.size(); t++) {
      const auto share = static_cast<int>(n_candidates * t / team_.size());
      bounds_[t] = static_cast<int>(
          std::lower_bound(graph.first, graph.first + graph.n_local, share) - graph.first);
    }
  }

  void compute(const double *x, Exchange *exchange, Result &result) override
  {
    overlap_ = false;
    team_.run([&](int t) {
      find_pairs(x, bounds_[t], bounds_[t + 1]);
      send(0, t);
    });
    if (overlap_) throw std::runtime_error("two atoms are at the same place");
    for (int k = 0; k < n_layers_; k++) {
      const bool last = k == n_layers_ - 1;
      team_.run([&](int t) {
        for_blocks(t, [&](int row, int n) {
          update(k, t, row, n);
          if (last) {
            read_out(t, row, n, result.energies, result.sigmas);
            gather_gradient(k, t, row, n);
          }
        });
      });
      if (last) break;
      if (exchange) exchange->forward(y_[k + 1].get(), filter_width_, is_double);
      team_.run([&](int t) { send(k + 1, t); });
    }
    for (int k = n_layers_ - 1; k > 0; k--) {
      team_.run([&](int t) {
        kernel_.backward(messages(k), bounds_[t], bounds_[t + 1], message_gradient_.get(),
                         pair_gradient_.data(), threads_[t].rows.get());
      });
      if (exchange) {
        gather_ghosts();
        exchange->reverse(y_gradient_.get(), filter_width_, is_double);
      }
      team_.run([&](int t) {
        for_blocks(t, [&](int row, int n) {
          receive_gradient(k, t, row, n, exchange != nullptr);
          gather_gradient(k - 1, t, row, n);
        });
      });
    }
    team_.run([&](int t) {
      kernel_.backward(messages(0), bounds_[t], bounds_[t + 1], message_gradient_.get(),
                       pair_gradient_.data(), nullptr);
      pair_forces(t);
    });
    collect(result);
  }

  bool has_sigmas() const override { return !rigidity_.empty(); }

  double memory_usage() const override
  {
    size_t n = x_.size() + gradient_.size() + message_gradient_.size() + y_gradient_.size() +
        place_.capacity() + pair_gradient_.capacity() + weights_.size() + weight_slopes_.size();
    for (int k = 0; k < n_layers_; k++) n += y_[k].size() + slopes_[k].size() + tables_[k].size();
    for (const Thread &thread : threads_) n += thread.rows.size() + thread.scratch.size();
    return static_cast<double>(n * sizeof(Real) + direction_.capacity() * sizeof(double) +
                               (n_pairs_.capacity() + sender_.capacity() + knot_.capacity()) *
                                   sizeof(int));
  }

  const char *kernel() const override { return kernel_.name; }

 private:
  static constexpr bool is_double = sizeof(Real) == sizeof(double);
  static constexpr int BLOCK = 48;          // rows that go through the dense layers together
  static constexpr int ROWS_SCRATCH = 4;    // after it: rows of one element, in and out; slopes

  struct Thread {
    Buffer<Real> rows;    // zero between sections
    Buffer<Real> scratch;
    std::vector<double> forces;
    double virial[6];
    long n_pairs;
  };

  Buffer<Real> make_table(const std::vector<double> &knots) const
  {
    const std::vector<double> coefficients =
        spline_coefficients(knots, n_knots_, n_filters_, cutoff_ / (n_knots_ - 1));
    Buffer<Real> table;
    table.need(static_cast<size_t>(n_knots_ + 4) * filter_width_);
    for (int row = 0; row < n_knots_ + 4; row++)
      for (int f = 0; f < n_filters_; f++)
        table.get()[static_cast<size_t>(row) * filter_width_ + f] =
            static_cast<Real>(coefficients[static_cast<size_t>(row) * n_filters_ + f]);
    return table;
  }

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

  /// Candidates within the cutoff, of atoms begin … end − 1; positions and distances in double.
  void find_pairs(const double *x, int begin, int end)
  {
    const double cutoff_squared = cutoff_ * cutoff_, knots_per_length = (n_knots_ - 1) / cutoff_;
    for (int i = begin; i < end; i++) {
      const int first = graph_.first[i];
      int p = first;
      const double *x_i = x + 3 * static_cast<size_t>(i);
      // who is too far away is overwritten by the next: no branch that nobody can predict
      for (int c = first; c < graph_.first[i + 1]; c++) {
        const double *x_j = x + 3 * static_cast<size_t>(graph_.sender_atom[c]);
        double *d = &direction_[4 * static_cast<size_t>(p)];
        for (int k = 0; k < 3; k++) d[k] = x_j[k] - x_i[k];
        d[3] = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
        sender_[p] = graph_.sender_row[c];
        p += d[3] < cutoff_squared;
      }
      n_pairs_[i] = p - first;
      for (p = first; p < first + n_pairs_[i]; p++) {
        double &last = direction_[4 * static_cast<size_t>(p) + 3];
        if (last == 0.0) overlap_ = true;
        const double r = std::sqrt(last), place = r * knots_per_length;
        knot_[p] = std::min(static_cast<int>(place), n_knots_ - 2);
        place_[p] = static_cast<Real>(place - knot_[p]);
        pair_gradient_[p] = Real(0);
        last = knots_per_length / r;
      }
      const size_t at = SPLINES * static_cast<size_t>(first);
      kernel_.splines(n_pairs_[i], place_.data() + first, weights_.get() + at,
                      weight_slopes_.get() + at);
    }
  }

  Messages<Real> messages(int layer) const
  {
    return {graph_.n_local,       filter_width_,  graph_.first,   n_pairs_.data(),
            sender_.data(),       knot_.data(),   weights_.get(), weight_slopes_.get(),
            tables_[layer].get(), y_[layer].get()};
  }

  void send(int layer, int t)
  {
    kernel_.forward(messages(layer), bounds_[t], bounds_[t + 1], threads_[t].rows.get());
  }

  template <typename Body> void for_blocks(int t, const Body &body)
  {
    const int n_blocks = (graph_.n_local + BLOCK - 1) / BLOCK;
    for (int block = n_blocks * t / team_.size(); block < n_blocks * (t + 1) / team_.size();
         block++) {
      const int row = block * BLOCK;
      body(row, std::min(BLOCK, graph_.n_local - row));
    }
  }

  Real *scratch(int t, size_t k) const { return threads_[t].scratch.get() + k * BLOCK * widest_; }
  Real *at(const Buffer<Real> &rows, int row, int width) const
  {
    return rows.get() + static_cast<size_t>(row) * width;
  }
  int team_size() const { return static_cast<int>(buffers_.size()); }

  /// After layer k's messages: x += f2out(messages), and what the next layer sends.
  void update(int k, int t, int row, int n)
  {
    Real *message = scratch(t, 0), *inner = scratch(t, 1);
    Real *slopes = at(slopes_[k], row, basis_width_), *x = at(x_, row, basis_width_);
    kernel_.gather(team_size(), buffers_.data(), static_cast<long>(row) * filter_width_,
                   n * filter_width_, message, false);
    kernel_.product(n, n_filters_, basis_width_, message, filter_width_, f2out0_[k].matrix.get(),
                    f2out0_[k].bias.get(), inner, basis_width_, false);
    kernel_.activate(inner_, n * basis_width_, inner, slopes);
    if (k == 0) {
      for (int i = 0; i < n; i++) {
        const int species = graph_.species[row + i];
        const Real *from = embedding_.get() + std::max(species, 0) * basis_width_;
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
                      nullptr, at(y_[k + 1], row, filter_width_), filter_width_, false);
  }

  /// Energies, their uncertainties unless null, and their gradient by x.
  void read_out(int t, int row, int n, double *energies, double *sigmas)
  {
    const Real *x = at(x_, row, basis_width_);
    Real *gradient = at(gradient_, row, basis_width_);
    if (readouts_.size() == 1) {
      const Real *found = through(t, 0, n, x, gradient, sigmas ? sigmas + row : nullptr);
      for (int i = 0; i < n; i++) {
        set_energy(row + i, found[i * padded<Real>(1)], energies);
        if (sigmas && graph_.species[row + i] < 0) sigmas[row + i] = 0.0;
      }
      return;
    }
    // each element's rows together through its network
    Real *in = scratch(t, ROWS_SCRATCH), *out = scratch(t, ROWS_SCRATCH + 1);
    int rows[BLOCK];
    double own_sigmas[BLOCK];
    for (size_t s = 0; s < readouts_.size(); s++) {
      int n_own = 0;
      for (int i = 0; i < n; i++)
        if (graph_.species[row + i] == static_cast<int>(s)) {
          std::copy_n(x + i * basis_width_, basis_width_, in + n_own * basis_width_);
          rows[n_own++] = i;
        }
      if (!n_own) continue;
      const Real *found = through(t, s, n_own, in, out, sigmas ? own_sigmas : nullptr);
      for (int i = 0; i < n_own; i++) {
        if (sigmas) sigmas[row + rows[i]] = own_sigmas[i];
        std::copy_n(out + i * basis_width_, basis_width_, gradient + rows[i] * basis_width_);
        set_energy(row + rows[i], found[i * padded<Real>(1)], energies);
      }
    }
    for (int i = 0; i < n; i++)
      if (graph_.species[row + i] < 0) {
        std::fill_n(gradient + i * basis_width_, basis_width_, Real(0));
        energies[row + i] = 0.0;
        if (sigmas) sigmas[row + i] = 0.0;
      }
  }

  void set_energy(int row, Real value, double *energies) const
  {
    const int species = graph_.species[row];
    energies[row] = species < 0 ? 0.0 : offsets_[species] + static_cast<double>(value);
  }

  /// An output network's values for n rows, padded<Real>(1) apart, and their gradient by the rows.
  const Real *through(int t, size_t s, int n, const Real *input, Real *input_gradient,
                      double *sigmas)
  {
    const std::vector<Dense<Real>> &network = readouts_[s];
    int input_width = basis_width_;
    for (size_t k = 0; k < network.size(); k++) {
      const Dense<Real> &layer = network[k];
      if (sigmas && k + 1 == network.size())
        find_sigmas(t, rigidity_[s], n, input, input_width, sigmas);
      const int width = padded<Real>(layer.n_out);
      Real *values = scratch(t, k % 2);
      kernel_.product(n, layer.n_in, width, input, input_width, layer.matrix.get(),
                      layer.bias.get(), values, width, false);
      if (k + 1 < network.size()) kernel_.activate(outer_, n * width, values, output_slopes(t, k));
      input = values;
      input_width = width;
    }
    // backwards: the gradient by the energy is 1
    Real *gradient = scratch(t, 2);
    int width = padded<Real>(1);
    for (int i = 0; i < n; i++) gradient[i * width] = Real(1);
    for (size_t k = network.size(); k-- > 0;) {
      const Dense<Real> &layer = network[k];
      const int next = padded<Real>(layer.n_in);
      Real *out = k == 0 ? input_gradient : scratch(t, 2 + (network.size() - k) % 2);
      kernel_.product(n, layer.n_out, next, gradient, width, layer.transposed.get(), nullptr, out,
                      next, false);
      if (k > 0) kernel_.scale(n * next, out, output_slopes(t, k - 1));
      gradient = out;
      width = next;
    }
    return input;
  }

  void find_sigmas(int t, const Dense<Real> &rigidity, int n, const Real *features,
                   int feature_width, double *sigmas)
  {
    const int width = padded<Real>(rigidity.n_out);
    Real *long_as = scratch(t, 2);    // free until the way back
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

  Real *output_slopes(int t, size_t k) const { return scratch(t, ROWS_SCRATCH + 2 + k); }

  /// From the gradient by x after layer k, that by its messages.
  void gather_gradient(int k, int t, int row, int n)
  {
    Real *inner = scratch(t, 0);
    kernel_.product(n, n_basis_, basis_width_, at(gradient_, row, basis_width_), basis_width_,
                    f2out1_[k].transposed.get(), nullptr, inner, basis_width_, false);
    kernel_.scale(n * basis_width_, inner, at(slopes_[k], row, basis_width_));
    kernel_.product(n, n_basis_, filter_width_, inner, basis_width_, f2out0_[k].transposed.get(),
                    nullptr, at(message_gradient_, row, filter_width_), filter_width_, false);
  }

  /// Adds to the gradient by x what comes through the messages of layer k.
  void receive_gradient(int k, int t, int row, int n, bool exchanged)
  {
    Real *y_gradient = exchanged ? at(y_gradient_, row, filter_width_) : scratch(t, 0);
    kernel_.gather(team_size(), buffers_.data(), static_cast<long>(row) * filter_width_,
                   n * filter_width_, y_gradient, exchanged);
    kernel_.product(n, n_filters_, basis_width_, y_gradient, filter_width_,
                    in2f_[k].transposed.get(), nullptr, at(gradient_, row, basis_width_),
                    basis_width_, true);
  }

  /// What own atoms' energies feel of ghosts' features; own rows wait for what comes back.
  void gather_ghosts()
  {
    const size_t n_local = graph_.n_local, n_rows = graph_.n_rows;
    Real *rows = y_gradient_.get();
    std::fill(rows, rows + n_local * filter_width_, Real(0));
    if (n_rows > n_local)
      kernel_.gather(team_size(), buffers_.data(), static_cast<long>(n_local) * filter_width_,
                     static_cast<int>((n_rows - n_local) * filter_width_),
                     rows + n_local * filter_width_, false);
  }

  void pair_forces(int t)
  {
    Thread &thread = threads_[t];
    std::fill(thread.forces.begin(), thread.forces.end(), 0.0);
    std::fill(thread.virial, thread.virial + 6, 0.0);
    thread.n_pairs = 0;
    for (int i = bounds_[t]; i < bounds_[t + 1]; i++) {
      double fx = 0.0, fy = 0.0, fz = 0.0;
      for (int p = graph_.first[i]; p < graph_.first[i] + n_pairs_[i]; p++) {
        double *d = &direction_[4 * static_cast<size_t>(p)];
        // from here on the fourth number is (dE/dr)/r
        const double slope = d[3] *= static_cast<double>(pair_gradient_[p]);
        const double gx = slope * d[0], gy = slope * d[1], gz = slope * d[2];
        fx += gx;
        fy += gy;
        fz += gz;
        double *force = &thread.forces[3 * static_cast<size_t>(sender_[p])];
        force[0] -= gx;
        force[1] -= gy;
        force[2] -= gz;
        thread.virial[0] -= gx * d[0];
        thread.virial[1] -= gy * d[1];
        thread.virial[2] -= gz * d[2];
        thread.virial[3] -= gx * d[1];
        thread.virial[4] -= gx * d[2];
        thread.virial[5] -= gy * d[2];
      }
      double *force = &thread.forces[3 * static_cast<size_t>(i)];
      force[0] += fx;
      force[1] += fy;
      force[2] += fz;
      thread.n_pairs += n_pairs_[i];
    }
  }

  void collect(Result &result)
  {
    std::fill(result.virial, result.virial + 6, 0.0);
    std::fill(result.forces, result.forces + 3 * static_cast<size_t>(graph_.n_rows), 0.0);
    result.n_pairs = 0;
    for (const Thread &thread : threads_) {
      for (size_t k = 0; k < 3 * static_cast<size_t>(graph_.n_rows); k++)
        result.forces[k] += thread.forces[k];
      for (int k = 0; k < 6; k++) result.virial[k] += thread.virial[k];
      result.n_pairs += thread.n_pairs;
    }
    if (!result.atom_virials) return;
    std::fill(result.atom_virials, result.atom_virials + 6 * static_cast<size_t>(graph_.n_rows),
              0.0);
    for (int i = 0; i < graph_.n_local; i++)
      for (int p = graph_.first[i]; p < graph_.first[i] + n_pairs_[i]; p++) {
        const double *d = &direction_[4 * static_cast<size_t>(p)];
        const double half = -0.5 * d[3];
        const double v[6] = {half * d[0] * d[0], half * d[1] * d[1], half * d[2] * d[2],
                             half * d[0] * d[1], half * d[0] * d[2], half * d[1] * d[2]};
        for (int k = 0; k < 6; k++) {
          result.atom_virials[6 * static_cast<size_t>(i) + k] += v[k];
          result.atom_virials[6 * static_cast<size_t>(sender_[p]) + k] += v[k];
        }
      }
  }

  const Kernel<Real> &kernel_;
  Team team_;
  double cutoff_;
  std::vector<double> offsets_;
  int n_layers_, n_basis_, basis_width_, n_filters_, filter_width_, n_knots_, widest_ = 0;
  Activation inner_, outer_;
  std::vector<Dense<Real>> in2f_, f2out0_, f2out1_;
  std::vector<std::vector<Dense<Real>>> readouts_;    // one, or one for each species
  std::vector<Dense<Real>> rigidity_;                 // of each of them, or none
  std::vector<Buffer<Real>> tables_;
  Buffer<Real> embedding_, first_y_;

  Graph graph_;
  std::vector<int> bounds_;    // atoms of each thread
  std::vector<int> n_pairs_, sender_, knot_;
  std::vector<Real> place_, pair_gradient_;
  std::vector<double> direction_;           // of each pair: dx, dy, dz, and knots a length over r
  Buffer<Real> weights_, weight_slopes_;    // SPLINES numbers for each pair
  Buffer<Real> x_, gradient_, message_gradient_, y_gradient_;
  std::vector<Buffer<Real>> y_, slopes_;
  std::vector<Thread> threads_;
  std::vector<Real *> buffers_;
  std::atomic<bool> overlap_{false};
};

}    // namespace

std::unique_ptr<CompressedModel> CompressedModel::make(const ModelFile &file, int n_threads)
{
  if (!file.has_compressed)
    throw std::runtime_error("the file has no tables for the compressed mode");
  if (file.dtype == "float32") return std::make_unique<Model<float>>(file, n_threads);
  return std::make_unique<Model<double>>(file, n_threads);
}

}    // namespace mlsel
