#include "schnet_model.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "schnet_network.h"
#include "spline.h"

namespace mlsel {
namespace {

/// Coefficients of a table's splines, at n_wanted knots where it has fewer: the finer spline takes
/// the values of the coarser one.
std::vector<double> refined_coefficients(const std::vector<double> &knots, int n_knots,
                                         int n_functions, double cutoff, int n_wanted)
{
  const std::vector<double> coarse =
      spline_coefficients(knots, n_knots, n_functions, cutoff / (n_knots - 1));
  if (n_wanted == n_knots) return coarse;
  const auto n = static_cast<size_t>(n_functions);
  std::vector<double> fine(3 * n * n_wanted);
  // the slopes and curvatures that are used stand at the ends
  std::copy_n(knots.begin(), 3 * n, fine.begin());
  std::copy_n(knots.end() - static_cast<ptrdiff_t>(3 * n), 3 * n,
              fine.end() - static_cast<ptrdiff_t>(3 * n));
  Buffer<double> weights, slopes;
  weights.need(SPLINES);
  slopes.need(SPLINES);
  for (int k = 0; k < n_wanted; k++) {
    const double place = static_cast<double>(k) * (n_knots - 1) / (n_wanted - 1);
    const int knot = std::min(static_cast<int>(place), n_knots - 2);
    const double t = place - knot;
    choose_schnet_kernel<double>().splines(1, &t, weights.get(), slopes.get());
    for (size_t f = 0; f < n; f++) {
      double &value = fine[3 * n * k + f];
      value = 0.0;
      for (int row = 0; row < 6; row++) value += weights.get()[row] * coarse[(knot + row) * n + f];
    }
  }
  return spline_coefficients(fine, n_wanted, n_functions, cutoff / (n_wanted - 1));
}

template <typename Real> class Model : public CompressedModel {
 public:
  Model(std::span<const ModelFile *const> files, int n_threads)
      : kernel_(choose_schnet_kernel<Real>()), team_(n_threads), cutoff_(files[0]->cutoff),
        n_layers_(files[0]->compressed.n_layers), n_filters_(files[0]->compressed.n_filters),
        n_networks_(static_cast<int>(files.size())), part_(padded<Real>(n_filters_)),
        width_(n_networks_ * part_)
  {
    for (const ModelFile *file : files) n_knots_ = std::max(n_knots_, file->compressed.n_knots);
    tables_.resize(n_layers_);
    for (int m = 0; m < n_networks_; m++) {
      networks_.emplace_back(kernel_, *files[m], m * part_, width_);
      for (int k = 0; k < n_layers_; k++) fill_table(files[m]->compressed, k, m * part_);
      scratch_size_ = std::max(scratch_size_, networks_.back().scratch_size());
    }
    y_.resize(n_layers_);
    for (int t = 0; t < team_.size(); t++) {
      threads_.emplace_back();
      threads_.back().scratch.need(scratch_size_);
      threads_.back().block.need(static_cast<size_t>(Network<Real>::BLOCK) * width_);
    }
  }

  void set_graph(const Graph &graph) override
  {
    graph_ = graph;
    const size_t n_local = graph.n_local, n_rows = graph.n_rows;
    const size_t n_candidates = n_local ? graph.first[n_local] : 0;
    for (PairsOfAtoms *one : {&own_, &foreign_}) {
      one->first.resize(n_local);
      one->n.resize(n_local);
    }
    sender_.resize(n_candidates);
    knot_.resize(n_candidates);
    place_.resize(n_candidates);
    weights_.need(SPLINES * n_candidates);
    weight_slopes_.need(SPLINES * n_candidates);
    direction_.resize(4 * n_candidates);
    pair_gradient_.resize(n_networks_ * n_candidates);
    message_gradient_.need(n_local * width_);
    for (Buffer<Real> &y : y_) y.need(n_rows * width_);
    buffers_.clear();
    for (Thread &thread : threads_) {
      thread.rows.need(n_rows * width_);
      // zero already, unless an error ended the last step
      std::fill(thread.rows.get(), thread.rows.get() + thread.rows.size(), Real(0));
      thread.forces.resize(3 * n_rows * n_networks_);
      thread.virials.resize(6 * static_cast<size_t>(n_networks_));
      buffers_.push_back(thread.rows.get());
    }
    for (Network<Real> &network : networks_) {
      network.set_rows(graph.n_local, graph.species);
      for (size_t row = 0; row < n_rows; row++)
        network.first_sent(graph.species[row], y_[0].get() + row * width_);
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

  void compute(const double *x, Exchange *exchange, std::span<Result> results) override
  {
    overlap_ = false;
    team_.run([&](int t) {
      find_pairs(x, bounds_[t], bounds_[t + 1]);
      send(own_pairs(0), t);
      send(foreign_pairs(0), t);
    });
    if (overlap_) throw std::runtime_error("two atoms are at the same place");
    if (exchange) exchange->use(&rows_in_pairs());
    for (int k = 0; k < n_layers_; k++) {
      const bool last = k == n_layers_ - 1;
      team_.run([&](int t) { update(k, t, last, results); });
      if (last) break;
      // other processes' rows are on their way while own atoms' pairs are summed
      if (exchange) exchange->start_forward(y_[k + 1].get(), width_, is_double);
      team_.run([&](int t) { send(own_pairs(k + 1), t); });
      if (!exchange) continue;
      exchange->finish();
      team_.run([&](int t) { send(foreign_pairs(k + 1), t); });
    }
    for (int k = n_layers_ - 1; k > 0; k--) {
      if (exchange) {
        team_.run([&](int t) { send_back(foreign_pairs(k), t); });
        gather_foreign();
        exchange->start_reverse(buffers_[0], width_, is_double);
      }
      team_.run([&](int t) { send_back(own_pairs(k), t); });
      if (exchange) {
        exchange->finish();
        std::fill(buffers_[0] + foreign_begin(), buffers_[0] + foreign_end(), Real(0));
      }
      team_.run([&](int t) { receive_gradient(k, t); });
    }
    team_.run([&](int t) {
      for (const Messages<Real> &pairs : {own_pairs(0), foreign_pairs(0)})
        kernel_.backward(pairs, bounds_[t], bounds_[t + 1], message_gradient_.get(),
                         pair_gradient_.data(), nullptr);
      pair_forces(t);
    });
    for (int m = 0; m < n_networks_; m++) collect(m, results[m]);
  }

  bool has_sigmas() const override { return networks_.front().has_sigmas(); }

  double memory_usage() const override
  {
    size_t n = message_gradient_.size() + place_.capacity() + pair_gradient_.capacity() +
        weights_.size() + weight_slopes_.size();
    for (int k = 0; k < n_layers_; k++) n += y_[k].size() + tables_[k].size();
    for (const Network<Real> &network : networks_) n += network.memory_size();
    size_t n_doubles = direction_.capacity();
    for (const Thread &thread : threads_) {
      n += thread.rows.size() + thread.scratch.size() + thread.block.size();
      n_doubles += thread.forces.capacity();
    }
    return static_cast<double>(
        n * sizeof(Real) + n_doubles * sizeof(double) +
        (2 * (own_.first.capacity() + foreign_.first.capacity()) + sender_.capacity() +
         knot_.capacity()) *
            sizeof(int));
  }

  const char *kernel() const override { return kernel_.name; }

 private:
  static constexpr bool is_double = sizeof(Real) == sizeof(double);

  struct PairsOfAtoms {
    std::vector<int> first, n;    // of each own atom
  };

  struct Thread {
    Buffer<Real> rows;                      // zero between sections
    Buffer<Real> scratch, block;            // block: messages of the rows that are at work
    std::vector<double> forces, virials;    // of each network
    long n_pairs = 0;
  };

  /// A network's columns of a layer's table, as coefficients of B-splines.
  void fill_table(const Compressed &from, int layer, int column)
  {
    const std::vector<double> coefficients =
        refined_coefficients(from.array("layer" + std::to_string(layer) + "/table"), from.n_knots,
                             n_filters_, cutoff_, n_knots_);
    Real *table = tables_[layer].need(static_cast<size_t>(n_knots_ + 4) * width_) + column;
    for (int row = 0; row < n_knots_ + 4; row++)
      for (int f = 0; f < n_filters_; f++)
        table[static_cast<size_t>(row) * width_ + f] =
            static_cast<Real>(coefficients[static_cast<size_t>(row) * n_filters_ + f]);
  }

  /// Candidates within the cutoff, of atoms begin … end − 1; positions and distances in double.
  void find_pairs(const double *x, int begin, int end)
  {
    int p = graph_.first[begin];
    for (int i = begin; i < end; i++) {
      own_.first[i] = p;
      own_.n[i] = find_pairs(x, i, graph_.first[i], graph_.first_foreign[i], p);
      p += own_.n[i];
    }
    for (int i = begin; i < end; i++) {
      foreign_.first[i] = p;
      foreign_.n[i] = find_pairs(x, i, graph_.first_foreign[i], graph_.first[i + 1], p);
      p += foreign_.n[i];
    }
  }

  /// How many of atom i's candidates begin … end − 1 are pairs; they are put at `first` and behind.
  int find_pairs(const double *x, int i, int begin, int end, int first)
  {
    if (begin == end) return 0;
    const double cutoff_squared = cutoff_ * cutoff_, knots_per_length = (n_knots_ - 1) / cutoff_;
    const double *x_i = x + 3 * static_cast<size_t>(i);
    int p = first;
    // who is too far away is overwritten by the next: no branch that nobody can predict
    for (int c = begin; c < end; c++) {
      const double *x_j = x + 3 * static_cast<size_t>(graph_.sender_atom[c]);
      double *d = &direction_[4 * static_cast<size_t>(p)];
      for (int k = 0; k < 3; k++) d[k] = x_j[k] - x_i[k];
      d[3] = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
      sender_[p] = graph_.sender_row[c];
      p += d[3] < cutoff_squared;
    }
    const int n = p - first;
    for (p = first; p < first + n; p++) {
      double &square = direction_[4 * static_cast<size_t>(p) + 3];
      if (square == 0.0) overlap_ = true;
      const double r = std::sqrt(square), place = r * knots_per_length;
      knot_[p] = std::min(static_cast<int>(place), n_knots_ - 2);
      place_[p] = static_cast<Real>(place - knot_[p]);
      square = knots_per_length / r;    // from here on
    }
    std::fill_n(pair_gradient_.data() + static_cast<size_t>(first) * n_networks_, n * n_networks_,
                Real(0));
    const size_t at = SPLINES * static_cast<size_t>(first);
    kernel_.splines(n, place_.data() + first, weights_.get() + at, weight_slopes_.get() + at);
    return n;
  }

  Messages<Real> pairs(int layer, const PairsOfAtoms &of) const
  {
    return {graph_.n_local,       n_networks_,    part_,
            of.first.data(),      of.n.data(),    sender_.data(),
            knot_.data(),         weights_.get(), weight_slopes_.get(),
            tables_[layer].get(), y_[layer].get()};
  }
  Messages<Real> own_pairs(int layer) const { return pairs(layer, own_); }
  Messages<Real> foreign_pairs(int layer) const { return pairs(layer, foreign_); }

  void send(const Messages<Real> &pairs, int t)
  {
    kernel_.forward(pairs, bounds_[t], bounds_[t + 1], threads_[t].rows.get());
  }

  void send_back(const Messages<Real> &pairs, int t)
  {
    kernel_.backward(pairs, bounds_[t], bounds_[t + 1], message_gradient_.get(),
                     pair_gradient_.data(), threads_[t].rows.get());
  }

  template <typename Body> void for_blocks(int t, const Body &body)
  {
    constexpr int rows = Network<Real>::BLOCK;
    const int n_blocks = (graph_.n_local + rows - 1) / rows;
    for (int block = n_blocks * t / team_.size(); block < n_blocks * (t + 1) / team_.size();
         block++) {
      const int row = block * rows, n = std::min(rows, graph_.n_local - row);
      // what all threads' pairs brought these rows
      kernel_.gather(static_cast<int>(buffers_.size()), buffers_.data(),
                     static_cast<long>(row) * width_, n * width_, threads_[t].block.get(), false);
      body(typename Network<Real>::Block{row, n, threads_[t].scratch.get()});
    }
  }

  void update(int k, int t, bool last, std::span<Result> results)
  {
    for_blocks(t, [&](const auto &block) {
      for (int m = 0; m < n_networks_; m++) {
        networks_[m].update(k, block, threads_[t].block.get(), last ? nullptr : y_[k + 1].get());
        if (!last) continue;
        networks_[m].read_out(block, results[m].energies, results[m].sigmas);
        networks_[m].gather_gradient(k, block, message_gradient_.get());
      }
    });
  }

  void receive_gradient(int k, int t)
  {
    for_blocks(t, [&](const auto &block) {
      for (Network<Real> &network : networks_) {
        network.receive_gradient(k, block, threads_[t].block.get());
        network.gather_gradient(k - 1, block, message_gradient_.get());
      }
    });
  }

  /// Of others' rows: whether a pair within the cutoff has them.
  const std::vector<char> &rows_in_pairs()
  {
    is_in_pair_.assign(graph_.n_rows - graph_.n_local, 0);
    for (int i = 0; i < graph_.n_local; i++)
      for (int p = foreign_.first[i]; p < foreign_.first[i] + foreign_.n[i]; p++)
        is_in_pair_[sender_[p] - graph_.n_local] = 1;
    return is_in_pair_;
  }

  size_t foreign_begin() const { return static_cast<size_t>(graph_.n_local) * width_; }
  size_t foreign_end() const { return static_cast<size_t>(graph_.n_rows) * width_; }

  /// What own atoms' energies feel of other processes' rows, all of it in the first buffer.
  void gather_foreign()
  {
    const size_t n = foreign_end() - foreign_begin();
    if (n && buffers_.size() > 1)
      kernel_.gather(static_cast<int>(buffers_.size()) - 1, buffers_.data() + 1,
                     static_cast<long>(foreign_begin()), static_cast<int>(n),
                     buffers_[0] + foreign_begin(), true);
  }

  template <typename Body> void for_pairs(int i, const Body &body) const
  {
    for (const PairsOfAtoms *of : {&own_, &foreign_})
      for (int p = of->first[i]; p < of->first[i] + of->n[i]; p++) body(p);
  }

  double gradient(int pair, int network) const
  {
    return static_cast<double>(pair_gradient_[static_cast<size_t>(pair) * n_networks_ + network]);
  }

  void pair_forces(int t)
  {
    Thread &thread = threads_[t];
    std::fill(thread.forces.begin(), thread.forces.end(), 0.0);
    std::fill(thread.virials.begin(), thread.virials.end(), 0.0);
    thread.n_pairs = 0;
    for (int i = bounds_[t]; i < bounds_[t + 1]; i++) {
      for (int m = 0; m < n_networks_; m++) {
        double *forces = thread.forces.data() + 3 * static_cast<size_t>(graph_.n_rows) * m;
        double f[3] = {}, v[6] = {};
        for_pairs(i, [&](int p) {
          const double *d = &direction_[4 * static_cast<size_t>(p)];
          const double slope = d[3] * gradient(p, m);
          const double g[3] = {slope * d[0], slope * d[1], slope * d[2]};
          double *force = forces + 3 * static_cast<size_t>(sender_[p]);
          for (int k = 0; k < 3; k++) {
            f[k] += g[k];
            force[k] -= g[k];
            v[k] += g[k] * d[k];
          }
          v[3] += g[0] * d[1];
          v[4] += g[0] * d[2];
          v[5] += g[1] * d[2];
        });
        for (int k = 0; k < 3; k++) forces[3 * static_cast<size_t>(i) + k] += f[k];
        for (int k = 0; k < 6; k++) thread.virials[6 * m + k] -= v[k];
      }
      thread.n_pairs += own_.n[i] + foreign_.n[i];
    }
  }

  void collect(int m, Result &result) const
  {
    const size_t n = 3 * static_cast<size_t>(graph_.n_rows);
    std::fill(result.virial, result.virial + 6, 0.0);
    std::fill(result.forces, result.forces + n, 0.0);
    result.n_pairs = 0;
    for (const Thread &thread : threads_) {
      for (size_t k = 0; k < n; k++) result.forces[k] += thread.forces[n * m + k];
      for (int k = 0; k < 6; k++) result.virial[k] += thread.virials[6 * m + k];
      result.n_pairs += thread.n_pairs;
    }
    if (!result.atom_virials) return;
    std::fill(result.atom_virials, result.atom_virials + 2 * n, 0.0);
    for (int i = 0; i < graph_.n_local; i++)
      for_pairs(i, [&](int p) {
        const double *d = &direction_[4 * static_cast<size_t>(p)];
        const double half = -0.5 * d[3] * gradient(p, m);
        const double v[6] = {half * d[0] * d[0], half * d[1] * d[1], half * d[2] * d[2],
                             half * d[0] * d[1], half * d[0] * d[2], half * d[1] * d[2]};
        for (int k = 0; k < 6; k++) {
          result.atom_virials[6 * static_cast<size_t>(i) + k] += v[k];
          result.atom_virials[6 * static_cast<size_t>(sender_[p]) + k] += v[k];
        }
      });
  }

  const Kernel<Real> &kernel_;
  Team team_;
  double cutoff_;
  int n_layers_, n_filters_, n_knots_ = 0, n_networks_;
  int part_, width_;    // numbers in an atom's row of messages: of each network, and of all
  size_t scratch_size_ = 0;
  std::vector<Network<Real>> networks_;
  std::vector<Buffer<Real>> tables_;

  Graph graph_;
  std::vector<int> bounds_;    // atoms of each thread
  // pairs within the cutoff, those of a thread without gaps: of two own atoms, then with others'.
  // Where the few of an atom at the border stood among its candidates, their lines of memory came
  // when they were asked for, and a crossing pair took longer than a whole one.
  PairsOfAtoms own_, foreign_;
  std::vector<int> sender_, knot_;
  std::vector<char> is_in_pair_;
  std::vector<Real> place_, pair_gradient_;    // the latter by pair and network
  std::vector<double> direction_;              // of each pair: dx, dy, dz, knots a length over r
  Buffer<Real> weights_, weight_slopes_;       // SPLINES numbers for each pair
  Buffer<Real> message_gradient_;
  std::vector<Buffer<Real>> y_;
  std::vector<Thread> threads_;
  std::vector<Real *> buffers_;
  std::atomic<bool> overlap_{false};
};

}    // namespace

std::unique_ptr<CompressedModel> CompressedModel::make(std::span<const ModelFile *const> files,
                                                       int n_threads)
{
  for (const ModelFile *file : files)
    if (!file->has_compressed)
      throw std::runtime_error("the file has no tables for the compressed mode");
  if (files[0]->dtype == "float32") return std::make_unique<Model<float>>(files, n_threads);
  return std::make_unique<Model<double>>(files, n_threads);
}

bool CompressedModel::fit_together(const ModelFile &one, const ModelFile &other)
{
  const Compressed &a = one.compressed, &b = other.compressed;
  return one.has_compressed && other.has_compressed && one.dtype == other.dtype &&
      one.cutoff == other.cutoff && one.species == other.species && a.n_layers == b.n_layers &&
      a.n_filters == b.n_filters;
}

}    // namespace mlsel
