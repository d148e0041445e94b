(** T4 [damped], averaged case (Krasnosel'skii-Mann): G nonexpansive on a convex invariant set of a Hilbert space. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric BanachSpace Damped HilbertSpace RefutePoints.
Local Open Scope R_scope.
Set Implicit Arguments.

Definition convex (E : banach) (S : point E -> Prop) : Prop :=
  forall y z t, S y -> S z -> 0 <= t <= 1 -> S (add E (scale E (1 - t) y) (scale E t z)).

Section Averaged.
Variable H : hilbert.
Notation nm := (norm H).
Notation square x := (nm x * nm x).
Variables (S : point H -> Prop) (G : point H -> point H) (b : R).
Hypothesis shape : convex H S.
Hypothesis stays : forall y, S y -> S (G y).
Hypothesis nonexpansive : lipschitz (metric H) S 1 G.
Hypothesis damping : 0 < b < 1.
Notation F := (damped_map H b G).

Lemma averaged_stays : invariant (metric H) S F.
Proof. intros y Sy. apply shape; [exact Sy | exact (stays Sy) | lra]. Qed.

Lemma combination_sub (x y z : point H) :
  sub H (add H (scale H (1 - b) x) (scale H b y)) z = add H (scale H (1 - b) (sub H x z)) (scale H b (sub H y z)).
Proof.
  rewrite <- !scale_sub, <- sub_add. f_equal. rewrite <- scale_sum. replace (1 - b + b) with 1 by ring.
  now rewrite scale_one.
Qed.

(** One step loses b (1-b) times the squared residual. *)
Lemma averaged_step y s : S y -> S s -> G s = s ->
  square (sub H (F y) s) <= square (sub H y s) - b * (1 - b) * square (sub H (G y) y).
Proof.
  intros Sy Ss fixed. unfold damped_map. rewrite combination_sub, norm_combination.
  replace (sub H (G y) y) with (add H (scale H 1 (sub H (G y) s)) (scale H (-1) (sub H y s))).
  - rewrite norm_combination, (inner_comm H (sub H y s)).
    pose proof (nonexpansive Sy Ss) as k. rewrite fixed in k. simpl in k.
    pose proof (norm_nonneg H (sub H (G y) s)). set (p := nm (sub H y s)) in *. set (g := nm (sub H (G y) s)) in *.
    assert (g * g <= p * p) by nra. set (i := inner H _ _). nra.
  - rewrite scale_one, scale_minus_one. change (sub H (sub H (G y) s) (sub H y s) = sub H (G y) y).
    unfold sub at 1 2 3. rewrite neg_add, neg_neg, add_swap, (add_comm H (neg H s) s), add_neg, add_zero. reflexivity.
Qed.

(** Residuals never grow. *)
Lemma averaged_residual y : S y -> nm (sub H (G (F y)) (F y)) <= nm (sub H (G y) y).
Proof.
  intros Sy. rewrite (sub_split H _ (G y)). apply Rle_trans with (1 := norm_add H _ _).
  pose proof (nonexpansive (averaged_stays Sy) Sy) as k. simpl in k.
  rewrite damped_displacement, norm_scale, (Rabs_right b) in k by lra.
  assert (rest : sub H (G y) (F y) = scale H (1 - b) (sub H (G y) y)).
  { rewrite <- (neg_neg H (sub H (G y) (F y))).
    assert (turn : neg H (sub H (G y) (F y)) = sub H (F y) (G y)).
    { unfold sub. rewrite neg_add, neg_neg. apply add_comm. }
    rewrite turn. unfold damped_map. rewrite combination_sub, sub_self.
    rewrite <- (scale_zero H (zero H)), scale_scale, Rmult_0_r, scale_zero, add_zero, <- scale_neg. f_equal.
    unfold sub. rewrite neg_add, neg_neg. apply add_comm. }
  rewrite rest, norm_scale, (Rabs_right (1 - b)) by lra. lra.
Qed.

Lemma averaged_sum y0 s : S y0 -> S s -> G s = s -> forall n,
  let y := iterate (metric H) F y0 in
  b * (1 - b) * (INR n * square (sub H (G (y n)) (y n))) + square (sub H (y n) s) <= square (sub H y0 s).
Proof.
  intros S0 Ss fixed n y. induction n as [|n IH].
  { change (INR 0) with 0. change (y 0%nat) with y0. lra. }
  assert (Sn : S (y n)) by exact (@iterate_stays (metric H) S F y0 n averaged_stays S0).
  pose proof (averaged_step Sn Ss fixed) as step. pose proof (averaged_residual Sn) as less.
  change (y (Datatypes.S n)) with (F (y n)). rewrite S_INR.
  pose proof (norm_nonneg H (sub H (G (F (y n))) (F (y n)))) as r0. pose proof (pos_INR n) as n0.
  set (r := nm (sub H (G (F (y n))) (F (y n)))) in *. set (r' := nm (sub H (G (y n)) (y n))) in *.
  assert (squares : r * r <= r' * r') by (apply Rmult_le_compat; assumption).
  assert (0 <= b * (1 - b)) by nra.
  assert (b * (1 - b) * ((INR n + 1) * (r * r)) <= b * (1 - b) * ((INR n + 1) * (r' * r'))).
  { apply Rmult_le_compat_l; [assumption|]. apply Rmult_le_compat_l; lra. }
  lra.
Qed.
End Averaged.

(** An equilibrium in S is a hypothesis: translations have none. *)
Theorem averaged (H : hilbert) (S : point H -> Prop) (G : point H -> point H) (b : R) (y0 s : point H) :
  convex H S -> (forall y, S y -> S (G y)) -> lipschitz (metric H) S 1 G -> 0 < b < 1 ->
  S y0 -> S s -> G s = s ->
  let y := iterate (metric H) (damped_map H b G) y0 in
  (forall n, S (y n))
  /\ (forall n, norm H (sub H (G (y n)) (y n)) ^ 2 <= norm H (sub H y0 s) ^ 2 / (b * (1 - b) * INR (n + 1)))
  /\ (forall n, norm H (sub H (y (n + 1)%nat) s) <= norm H (sub H (y n) s)).
Proof.
  intros shape stays lip damping S0 Ss fixed y.
  assert (inside : forall n, S (y n)).
  { intros n. exact (@iterate_stays (metric H) S _ y0 n (averaged_stays H G shape stays damping) S0). }
  split; [exact inside|]. split.
  - intros n. rewrite plus_INR. simpl (INR 1).
    pose proof (averaged_sum H shape stays lip damping y0 S0 Ss fixed n) as total. fold y in total.
    pose proof (averaged_step H lip damping _ (inside n) Ss fixed) as step.
    pose proof (Rle_0_sqr (norm H (sub H (damped_map H b G (y n)) s))) as s0. unfold Rsqr in s0.
    pose proof (pos_INR n). simpl. rewrite !Rmult_1_r.
    assert (positive : 0 < b * (1 - b)) by nra.
    assert (0 < b * (1 - b) * (INR n + 1)) by (apply Rmult_lt_0_compat; lra).
    apply Rmult_le_reg_r with (b * (1 - b) * (INR n + 1)); [assumption|].
    set (K := b * (1 - b) * (INR n + 1)) in *. set (start := norm H (sub H y0 s)) in *.
    replace (start * start / K * K) with (start * start) by (field; lra). unfold K. lra.
  - intros n. rewrite Nat.add_comm. change (y (1 + n)%nat) with (damped_map H b G (y n)).
    pose proof (averaged_step H lip damping _ (inside n) Ss fixed) as step.
    pose proof (norm_nonneg H (sub H (y n) s)) as p.
    pose proof (norm_nonneg H (sub H (damped_map H b G (y n)) s)) as p'.
    pose proof (Rle_0_sqr (norm H (sub H (G (y n)) (y n)))) as r0. unfold Rsqr in r0.
    assert (0 <= b * (1 - b)) by nra. nra.
Qed.

(** The hypotheses can be met where T1 fails: -y on the line, whose undamped iteration never comes nearer. *)
Theorem averaged_instance : let G := fun y : point real_line => - y in
  convex real_line (fun _ => True) /\ lipschitz (metric real_line) (fun _ => True) 1 G /\ G 0 = 0
  /\ forall q, q < 1 -> ~ lipschitz (metric real_line) (fun _ => True) q G.
Proof.
  intros G. assert (apart : forall y z, dist (metric real_line) (G y) (G z) = dist (metric real_line) y z).
  { intros y z. simpl. unfold sub; simpl. unfold G. replace (- y + - - z) with (- (y + - z)) by ring.
    now rewrite Rabs_Ropp. }
  split; [intros y z t _ _ _; exact I|]. split; [|split].
  - intros y z _ _. rewrite apart. lra.
  - exact Ropp_0.
  - intros q below. apply (@refute_points (metric real_line) _ _ (0 : point real_line) (1 : point real_line));
      [exact I | exact I | exact (Rlt_not_eq _ _ Rlt_0_1) | rewrite apart; lra | exact below].
Qed.
