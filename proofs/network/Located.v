(** Where the fixed point lies: boxes around dyadic points, one before the first layer and one after each, that the
    layers map into one another and the last of which is the first. *)
From Coq Require Import Reals Lra Lia List ZArith.
From Deqops Require Import Lists Layers Values.
Import ListNotations.
Local Open Scope R_scope.
Set Implicit Arguments.

(** The c of a layer, entry by entry within slack of a value: both are mantissas for the exponents. *)
Record shift : Type := {
  places : list Z;
  values : list Z;
  slack : list Z
}.

Definition admits (s : shift) (c : list R) : Prop :=
  within (dyadics (places s) (slack s)) c (dyadics (places s) (values s)).

Definition exactly (s : shift) : list R := dyadics (places s) (values s).

(** ** The checker; all boxes have one exponent *)
Local Open Scope Z_scope.
Local Open Scope bool_scope.

Fixpoint integer_dot (x row : list Z) (total : Z) : Z :=
  match x, row with
  | b :: x', a :: row' => integer_dot x' row' (total + b * a)
  | _, _ => total
  end.

Fixpoint absolute_dot (r row : list Z) (total : Z) : Z :=
  match r, row with
  | b :: r', a :: row' => absolute_dot r' row' (total + b * Z.abs a)
  | _, _ => total
  end.

Definition entry_ok (phi : activation) (e : Z) (x r : list Z) (f : Z) (row : list Z) (g c s z t : Z) : bool :=
  let scale := f + e in
  let sd := slope_denominator phi in
  let spread := absolute_dot r row 0 + s * 2 ^ (scale - g) in
  (0 <=? f) && (0 <=? g) && (g <=? scale)
  && value_ok phi scale (integer_dot x row 0 + c * 2 ^ (scale - g)) (z * 2 ^ f)
       ((sd * t * 2 ^ f - slope_numerator phi * spread) / sd).

Fixpoint box_ok (phi : activation) (e : Z) (x r fs : list Z) (rows : list (list Z)) (gs cs ss zs ts : list Z) : bool :=
  match fs, rows, gs, cs, ss, zs, ts with
  | f :: fs', row :: rows', g :: gs', c :: cs', s :: ss', z :: zs', t :: ts' =>
      entry_ok phi e x r f row g c s z t && box_ok phi e x r fs' rows' gs' cs' ss' zs' ts'
  | [], [], [], [], [], [], [] => true
  | _, _, _, _, _, _, _ => false
  end.

(** A box: centers and radii, mantissas for the one exponent. *)
Definition box : Type := list Z * list Z.

Fixpoint boxes_ok (e : Z) (B : box) (layers : list stored) (shifts : list shift) (hidden : list box) (last : box) : bool :=
  match layers, shifts, hidden with
  | [w], [s], [] =>
      proper (phi w) && box_ok (phi w) e (fst B) (snd B) (exponents w) (mantissas w) (places s) (values s) (slack s)
                          (fst last) (snd last)
  | w :: layers', s :: shifts', C :: hidden' =>
      proper (phi w) && box_ok (phi w) e (fst B) (snd B) (exponents w) (mantissas w) (places s) (values s) (slack s)
                          (fst C) (snd C)
      && boxes_ok e C layers' shifts' hidden' last
  | _, _, _ => false
  end.

Definition located_ok (n : nat) (e : Z) (B : box) (layers : list stored) (shifts : list shift) (hidden : list box) : bool :=
  (0 <=? e) && (length (fst B) =? n)%nat && (length (snd B) =? n)%nat && forallb (Z.leb 0) (snd B)
  && boxes_ok e B layers shifts hidden B.

Local Open Scope R_scope.

(** ** Soundness *)
Definition inside (e : Z) (B : box) (x : list R) : Prop :=
  within (map (dyadic e) (snd B)) x (map (dyadic e) (fst B)).

Lemma integer_dot_total x : forall row t, integer_dot x row t = (t + integer_dot x row 0)%Z.
Proof.
  induction x as [|b x IH]; intros [|a row] t; cbn [integer_dot]; try ring.
  rewrite (IH row (t + _)%Z), (IH row (0 + _)%Z). ring.
Qed.

Lemma absolute_dot_total x : forall row t, absolute_dot x row t = (t + absolute_dot x row 0)%Z.
Proof.
  induction x as [|b x IH]; intros [|a row] t; cbn [absolute_dot]; try ring.
  rewrite (IH row (t + _)%Z), (IH row (0 + _)%Z). ring.
Qed.

Lemma dyadic_product e f a b : (0 <= e)%Z -> (0 <= f)%Z -> dyadic f a * dyadic e b = dyadic (f + e) (a * b).
Proof.
  intros e0 f0. pose proof (dyadic_positive e0). pose proof (dyadic_positive f0).
  unfold dyadic. rewrite Z.pow_add_r, !mult_IZR by assumption. field. lra.
Qed.

Lemma dyadic_sum e a b : dyadic e (a + b) = dyadic e a + dyadic e b.
Proof. unfold dyadic. rewrite plus_IZR. unfold Rdiv. ring. Qed.

Lemma dyadic_shift e f a : (0 <= f <= e)%Z -> dyadic f a = dyadic e (a * 2 ^ (e - f)).
Proof.
  intros range. assert (f0 : (0 <= f)%Z) by lia. assert (g0 : (0 <= e - f)%Z) by lia.
  pose proof (dyadic_positive f0). pose proof (dyadic_positive g0).
  unfold dyadic. replace e with (f + (e - f))%Z at 2 by lia.
  rewrite Z.pow_add_r, !mult_IZR by assumption. field. lra.
Qed.

Lemma dyadic_abs e a : (0 <= e)%Z -> Rabs (dyadic e a) = dyadic e (Z.abs a).
Proof.
  intros e0. pose proof (dyadic_positive e0) as s. unfold dyadic, Rdiv.
  rewrite Rabs_mult, abs_IZR, (Rabs_pos_eq (/ _)); [reflexivity | left; now apply Rinv_0_lt_compat].
Qed.

Lemma dyadic_le e a b : (0 <= e)%Z -> (a <= b)%Z -> dyadic e a <= dyadic e b.
Proof.
  intros e0 le. pose proof (dyadic_positive e0) as s. apply IZR_le in le. unfold dyadic, Rdiv.
  apply Rmult_le_compat_r; [left; now apply Rinv_0_lt_compat | exact le].
Qed.

Lemma dot_center e f : (0 <= e)%Z -> (0 <= f)%Z -> forall x row,
  dot (map (dyadic f) row) (map (dyadic e) x) = dyadic (f + e) (integer_dot x row 0).
Proof.
  intros e0 f0. induction x as [|b x IH]; intros [|a row]; cbn [map dot integer_dot];
    try (unfold dyadic, Rdiv; ring).
  rewrite integer_dot_total, IH, dyadic_product by assumption. rewrite <- dyadic_sum. f_equal. ring.
Qed.

Lemma dot_spread e f : (0 <= e)%Z -> (0 <= f)%Z -> forall row r x z,
  within (map (dyadic e) r) x (map (dyadic e) z) ->
  Rabs (dot (map (dyadic f) row) x - dot (map (dyadic f) row) (map (dyadic e) z))
  <= dyadic (f + e) (absolute_dot r row 0).
Proof.
  intros e0 f0. assert (zero : dyadic (f + e) 0 = 0) by (unfold dyadic, Rdiv; ring).
  induction row as [|a row IH]; intros [|q r] [|b x] [|c z]; cbn [map within dot absolute_dot]; try tauto;
    try (intros _; rewrite zero; unfold Rminus; rewrite Rplus_opp_r, Rabs_R0; lra).
  intros [near rest]. specialize (IH r x z rest).
  rewrite absolute_dot_total, dyadic_sum, Z.add_0_l, Z.mul_comm.
  replace (dyadic f a * b + dot (map (dyadic f) row) x - (dyadic f a * dyadic e c + dot (map (dyadic f) row) (map (dyadic e) z)))
    with (dyadic f a * (b - dyadic e c) + (dot (map (dyadic f) row) x - dot (map (dyadic f) row) (map (dyadic e) z))) by ring.
  apply Rle_trans with (1 := Rabs_triang _ _). rewrite Rabs_mult, dyadic_abs, <- dyadic_product by assumption.
  apply Rplus_le_compat; [|exact IH]. apply Rmult_le_compat_l; [|exact near].
  rewrite <- dyadic_abs by assumption. apply Rabs_pos.
Qed.

Lemma entry_ok_sound phi e x r f row g c s z t y d : (0 <= e)%Z -> proper phi = true ->
  entry_ok phi e x r f row g c s z t = true ->
  within (map (dyadic e) r) y (map (dyadic e) x) -> Rabs (d - dyadic g c) <= dyadic g s ->
  Rabs (apply phi (dot (map (dyadic f) row) y + d) - dyadic e z) <= dyadic e t.
Proof.
  intros e0 is_proper ok near_y near_d. unfold entry_ok in ok. rewrite !Bool.andb_true_iff in ok.
  destruct ok as [[[f0 g0] gs] ok]. apply Z.leb_le in f0. apply Z.leb_le in g0. apply Z.leb_le in gs.
  assert (scale0 : (0 <= f + e)%Z) by lia.
  apply value_ok_sound in ok; [|exact scale0].
  set (spread := (absolute_dot r row 0 + s * 2 ^ (f + e - g))%Z) in ok.
  set (u := (integer_dot x row 0 + c * 2 ^ (f + e - g))%Z) in ok.
  set (sd := slope_denominator phi) in ok. set (sn := slope_numerator phi) in ok.
  assert (at_center : dot (map (dyadic f) row) (map (dyadic e) x) + dyadic g c = dyadic (f + e) u).
  { rewrite dot_center by assumption. rewrite (@dyadic_shift (f + e) g c) by lia. unfold u. now rewrite dyadic_sum. }
  assert (move : Rabs (apply phi (dot (map (dyadic f) row) y + d) - apply phi (dyadic (f + e) u))
                 <= slope phi * dyadic (f + e) spread).
  { apply Rle_trans with (1 := apply_lipschitz phi _ _ is_proper). apply Rmult_le_compat_l; [apply slope_nonneg|].
    rewrite <- at_center.
    replace (dot (map (dyadic f) row) y + d - (dot (map (dyadic f) row) (map (dyadic e) x) + dyadic g c))
      with ((dot (map (dyadic f) row) y - dot (map (dyadic f) row) (map (dyadic e) x)) + (d - dyadic g c)) by ring.
    apply Rle_trans with (1 := Rabs_triang _ _). unfold spread. rewrite dyadic_sum.
    apply Rplus_le_compat; [now apply dot_spread|].
    rewrite <- (@dyadic_shift (f + e) g s) by lia. exact near_d. }
  assert (sd0 : (0 < sd)%Z) by (unfold sd; destruct phi; reflexivity).
  assert (room : dyadic (f + e) ((sd * t * 2 ^ f - sn * spread) / sd) + slope phi * dyadic (f + e) spread <= dyadic e t).
  { pose proof (Z.mul_div_le (sd * t * 2 ^ f - sn * spread) sd sd0) as le. apply IZR_le in le.
    rewrite mult_IZR, minus_IZR, !mult_IZR in le. apply IZR_lt in sd0.
    rewrite (@dyadic_shift (f + e) e t) by lia. replace (f + e - e)%Z with f by lia.
    pose proof (dyadic_positive scale0) as s0. unfold slope, rational, dyadic. fold sd sn. rewrite mult_IZR.
    apply Rmult_le_reg_r with (IZR sd * IZR (2 ^ (f + e))); [now apply Rmult_lt_0_compat|].
    set (v := IZR ((sd * t * 2 ^ f - sn * spread) / sd)) in *.
    replace ((v / IZR (2 ^ (f + e)) + IZR sn / IZR sd * (IZR spread / IZR (2 ^ (f + e)))) * (IZR sd * IZR (2 ^ (f + e))))
      with (IZR sd * v + IZR sn * IZR spread) by (field; lra).
    replace (IZR t * IZR (2 ^ f) / IZR (2 ^ (f + e)) * (IZR sd * IZR (2 ^ (f + e))))
      with (IZR sd * IZR t * IZR (2 ^ f)) by (field; lra).
    lra. }
  rewrite (@dyadic_shift (f + e) e z) by lia. replace (f + e - e)%Z with f by lia.
  set (a := apply phi (dot _ y + d)) in *. set (b := apply phi (dyadic (f + e) u)) in *.
  pose proof (Rabs_triang (a - b) (b - dyadic (f + e) (z * 2 ^ f))) as tri.
  replace (a - b + (b - dyadic (f + e) (z * 2 ^ f))) with (a - dyadic (f + e) (z * 2 ^ f)) in tri by ring. lra.
Qed.

Lemma box_ok_sound phi e x r y : (0 <= e)%Z -> proper phi = true -> within (map (dyadic e) r) y (map (dyadic e) x) ->
  forall fs rows gs cs ss zs ts d, box_ok phi e x r fs rows gs cs ss zs ts = true ->
  within (dyadics gs ss) d (dyadics gs cs) ->
  length d = length rows
  /\ within (map (dyadic e) ts) (layer phi (dyadic_rows fs rows) d y) (map (dyadic e) zs).
Proof.
  intros e0 is_proper near. induction fs as [|f fs IH];
    intros [|row rows] [|g gs] [|c cs] [|s ss] [|z zs] [|t ts] [|b d]; cbn [box_ok]; try discriminate;
    cbn [dyadics within dyadic_rows layer map length]; try tauto.
  rewrite Bool.andb_true_iff. intros [one rest] [near_b near_d].
  destruct (IH rows gs cs ss zs ts d rest near_d) as [len others].
  split; [now rewrite len|]. split; [|exact others].
  eapply entry_ok_sound; eassumption.
Qed.

Lemma boxes_ok_sound e last : (0 <= e)%Z -> forall layers B given hidden shifts y,
  boxes_ok e B layers given hidden last = true -> Forall2 admits given shifts -> inside e B y ->
  fits layers shifts /\ inside e last (network layers shifts y).
Proof.
  intros e0. induction layers as [|w layers IH]; intros B given hidden shifts y ok adm near; [discriminate|].
  destruct given as [|s given]; [destruct layers; discriminate|].
  inversion adm as [|? c ? cs near_c rest]; subst.
  assert (step : forall C : box, proper (phi w) = true ->
    box_ok (phi w) e (fst B) (snd B) (exponents w) (mantissas w) (places s) (values s) (slack s) (fst C) (snd C) = true ->
    length c = length (mantissas w) /\ inside e C (layer (phi w) (matrix w) c y)).
  { intros C p one. eapply box_ok_sound; eassumption. }
  assert (many : forall C hidden', (proper (phi w)
      && box_ok (phi w) e (fst B) (snd B) (exponents w) (mantissas w) (places s) (values s) (slack s) (fst C) (snd C)
      && boxes_ok e C layers given hidden' last)%bool = true ->
    fits (w :: layers) (c :: cs) /\ inside e last (network (w :: layers) (c :: cs) y)).
  { intros C hidden' all. rewrite !Bool.andb_true_iff in all. destruct all as [[p one] more].
    destruct (step C p one) as [len near_C]. destruct (IH C given hidden' cs _ more rest near_C) as [fit end_].
    split; [constructor; assumption | exact end_]. }
  destruct layers as [|w2 layers], given as [|s2 given], hidden as [|C hidden]; try discriminate; try exact (many C hidden ok).
  simpl in ok. rewrite Bool.andb_true_iff in ok. destruct ok as [p one].
  inversion rest; subst. destruct (step last p one) as [len end_]. split; [|exact end_].
  constructor; [exact len | constructor].
Qed.

Lemma box_center_inside e B : (0 <= e)%Z -> length (fst B) = length (snd B) -> forallb (Z.leb 0) (snd B) = true ->
  inside e B (map (dyadic e) (fst B)).
Proof.
  intros e0 len nonneg. unfold inside. apply within_self; [|now rewrite !map_length].
  rewrite forallb_forall in nonneg. apply Forall_forall. intros r in_r. apply in_map_iff in in_r.
  destruct in_r as [m [<- in_m]]. specialize (nonneg m in_m). apply Z.leb_le in nonneg.
  replace 0 with (dyadic e 0) by (unfold dyadic, Rdiv; ring). now apply dyadic_le.
Qed.

Theorem located_ok_sound n distance k e B layers given hidden :
  bounds_entries n distance -> located_ok n e B layers given hidden = true ->
  forall shifts, Forall2 admits given shifts -> (fits layers shifts -> converges n distance k (network layers shifts)) ->
  converges_near n distance k (network layers shifts) (map (dyadic e) (fst B)) (map (dyadic e) (snd B)).
Proof.
  intros entries ok shifts adm conv. unfold located_ok in ok. rewrite !Bool.andb_true_iff in ok.
  destruct ok as [[[[e0 l1] l2] nonneg] ok].
  apply Z.leb_le in e0. apply Nat.eqb_eq in l1. apply Nat.eqb_eq in l2.
  assert (center : inside e B (map (dyadic e) (fst B))) by (apply box_center_inside; congruence).
  destruct (@boxes_ok_sound e B e0 layers B given hidden shifts _ ok adm center) as [fit _].
  apply box_holds_fixed_point; [exact entries | exact (conv fit) | now rewrite map_length | exact center |].
  intros x near. exact (proj2 (@boxes_ok_sound e B e0 layers B given hidden shifts _ ok adm near)).
Qed.

(** Shifts without slack are known exactly. *)
Definition exact_ok (s : shift) : bool :=
  (forallb (Z.eqb 0) (slack s) && (length (places s) =? length (values s))%nat
   && (length (places s) =? length (slack s))%nat)%bool.

Lemma exactly_admitted s : exact_ok s = true -> admits s (exactly s).
Proof.
  unfold exact_ok, admits, exactly. rewrite !Bool.andb_true_iff. intros [[none l1] l2].
  apply Nat.eqb_eq in l1. apply Nat.eqb_eq in l2. revert none l1 l2.
  generalize (places s) as ps, (values s) as vs, (slack s) as ss.
  induction ps as [|p ps IH]; intros [|v vs] [|q ss]; cbn [forallb length dyadics within]; try lia; auto.
  rewrite !Bool.andb_true_iff. intros [q0 ss0] l1 l2. apply Z.eqb_eq in q0. subst q.
  split; [|apply IH; auto with arith].
  unfold dyadic, Rminus, Rdiv. rewrite Rplus_opp_r, Rabs_R0. lra.
Qed.

Lemma all_exactly_admitted given : forallb exact_ok given = true -> Forall2 admits given (map exactly given).
Proof.
  induction given as [|s given IH]; simpl; [constructor|]. rewrite Bool.andb_true_iff.
  intros [one rest]. constructor; [now apply exactly_admitted | auto].
Qed.

Theorem located_exactly n distance k e B layers given hidden :
  bounds_entries n distance -> (located_ok n e B layers given hidden && forallb exact_ok given)%bool = true ->
  (forall shifts, fits layers shifts -> converges n distance k (network layers shifts)) ->
  converges_near n distance k (network layers (map exactly given)) (map (dyadic e) (fst B)) (map (dyadic e) (snd B)).
Proof.
  rewrite Bool.andb_true_iff. intros entries [ok exact] conv.
  eapply located_ok_sound; [exact entries | exact ok | now apply all_exactly_admitted | apply conv].
Qed.
