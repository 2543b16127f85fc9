#include <vector>
class Matrix { int r, c; std::vector<double> d;
public: Matrix(int r, int c) : r(r), c(c), d(r * c) {} double& operator()(int i, int j) { return d[i * c + j]; } double operator()(int i, int j) const { return d[i * c + j]; } int rows() const { return r; } int cols() const { return c; }
 Matrix operator*(const Matrix& o) const { Matrix m(r, o.c); for (int i = 0; i < r; ++i) for (int j = 0; j < o.c; ++j) for (int k = 0; k < c; ++k) m(i, j) += (*this)(i, k) * o(k, j); return m; } bool operator==(const Matrix& o) const { return r == o.r && c == o.c && d == o.d; } };
