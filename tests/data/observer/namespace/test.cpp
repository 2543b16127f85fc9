#include <cstdio>


int main() {
    int passed = 0;
    bank::Account a = bank::Account::open(100); bank::Account b; b.deposit(50); passed += bank::total(a, b) == 150; passed += !a.withdraw(200); passed += a.withdraw(30) && a.balance() == 70;
    using bank::Account; Account c = Account::open(5); passed += c.balance() == 5; auto d = bank::Account::open(9); passed += d.balance() == 9;
    std::printf("\nPASSED %d/5\n", passed);
    return passed == 5 ? 0 : 1;
}
